"""`pgpeer owner`: the key of a person with several databases, and which of them are its devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pgpeer.cli.database import Database, open_database
from pgpeer.cli.options import Dsn, Json, required_dsn
from pgpeer.cli.output import moment, print_json, print_lines, print_rows
from pgpeer.errors import IdentityError
from pgpeer.identity.device import LABEL_CHARACTERS_LIMIT, SignedDevice, sign_device
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.keyfile import OwnerFile
from pgpeer.identity.peer_id import public_key_from_peer_id

app = typer.Typer(help="Let the databases of one owner trust each other.", no_args_is_help=True)

Owner = Annotated[
    Path, typer.Option("--owner", metavar="FILE", help="The owner's key, as 'pgpeer owner create' made it.")
]

_DEVICES: Final = "SELECT d.peer_id, d.label, d.state, d.known_since FROM peer.device AS d ORDER BY 4, 1"
_STORE: Final = """
    SELECT peer_internal.store_device(%(owner)s, %(peer_id)s, %(seq)s, decode(%(record)s, 'hex'), %(label)s,
                                      %(is_revoked)s, NULL)
"""
_NEXT: Final = "SELECT peer_internal.next_device_seq(%(owner)s, %(peer_id)s)"
_NOW: Final = "SELECT peer_internal.unix_milliseconds(pg_catalog.clock_timestamp()) / 1000"
_LABEL: Final = "SELECT d.label FROM peer.device AS d WHERE d.peer_id = %(peer_id)s"


@app.command("create")
def create(
    owner_file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the owner's key.")],
    as_json: Json = False,
) -> None:
    """Make an owner's key, once for all your databases, and write it to a file that you alone can read.

    Keep the file offline, with a copy: it is needed for 'adopt' and 'revoke' only. Whoever has it can let
    databases of his own connect to yours.
    """
    file = OwnerFile(owner_file.expanduser().absolute())
    key = file.create()
    if as_json:
        print_json({"owner": key.peer_id, "file": str(file.path)})
    else:
        print_lines([f"Wrote the key of owner {key.peer_id} to {file.path}."])


@app.command("adopt")
def adopt(owner: Owner, dsn: Dsn = None, as_json: Json = False) -> None:
    """Sign that this database is a device of the owner.

    From then on friend requests of the owner's other devices are accepted by themselves, and they may connect
    whatever peer.config.accept says. Again: signs anew, also after a revocation.
    """
    key = _owner_key(owner)
    with open_database(required_dsn(dsn)) as database, database.transaction():
        database.value("SELECT peer_internal.adopt(%(owner)s)", {"owner": key.peer_id})
        peer_id = str(database.value("SELECT peer.identity()"))
        if peer_id == key.peer_id:
            raise IdentityError(
                "The owner's key is the key of this very database.",
                remedy="Make a key of its own: pgpeer owner create FILE.",
                code="identity_mismatch",
            )
        label = str(database.value("SELECT c.label FROM peer.config AS c"))
        made = _sign(database, key, peer_id, label=label)
        database.value("SELECT peer_internal.adopted()")
    if as_json:
        print_json(_described(made))
    else:
        print_lines([f"This database, {peer_id}, is a device of owner {key.peer_id} now."])


@app.command("show")
def show(dsn: Dsn = None, as_json: Json = False) -> None:
    """Tell the owner of this database and the devices that it has heard of."""
    with open_database(required_dsn(dsn)) as database:
        owner = database.value("SELECT peer.owner()")
        devices = database.rows(_DEVICES)
    if as_json:
        print_json({"owner": owner, "devices": devices})
    elif owner is None:
        print_lines(["This database has no owner. pgpeer owner adopt --owner FILE gives it one."])
    else:
        print_lines([f"owner {owner}"])
        shown = [row | {"known_since": moment(row["known_since"])} for row in devices]
        print_rows(shown, ["label", "peer_id", "state", "known_since"], empty="")


@app.command("disown")
def disown(dsn: Dsn = None, as_json: Json = False) -> None:
    """Forget the owner and its other devices here. Friends stay friends, and members stay members.

    The other devices go on to trust this one: 'revoke' ends that.
    """
    with open_database(required_dsn(dsn)) as database:
        former = database.value("SELECT peer_internal.disown()")
    if as_json:
        print_json({"owner": former})
    elif former is None:
        print_lines(["This database has no owner."])
    else:
        print_lines([f"Forgot owner {former}."])


@app.command("revoke")
def revoke(
    peer_id: Annotated[str, typer.Argument(metavar="PEER_ID", help="The device: lost, sold or stolen.")],
    owner: Owner,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Sign that a peer is a device of the owner no longer. Run it on one of the other devices.

    The worker tells the rest. Each ends its friendship with that peer; bundles are another matter: let an
    admin remove it there (peer.remove_member).
    """
    key = _owner_key(owner)
    public_key_from_peer_id(peer_id)
    with open_database(required_dsn(dsn)) as database, database.transaction():
        present = database.value("SELECT peer.owner()")
        if present != key.peer_id:
            raise IdentityError(
                f"This database is no device of owner {key.peer_id}, so nobody would hear of it here.",
                remedy="Run it on a device of that owner, or first: pgpeer owner adopt --owner FILE.",
                code="identity_mismatch",
            )
        label = database.value(_LABEL, {"peer_id": peer_id}) or ""
        made = _sign(database, key, peer_id, label=label, is_revoked=True)
    if as_json:
        print_json(_described(made))
    else:
        print_lines([f"Revoked {peer_id}. The worker tells the other devices."])


def _owner_key(path: Path) -> PrivateKey:
    return OwnerFile(path.expanduser().absolute()).load()


def _sign(
    database: Database, key: PrivateKey, peer_id: str, *, label: str, is_revoked: bool = False
) -> SignedDevice:
    """Sign the owner's next word about a device and store it; raises IdentityError when it does not count."""
    seq = database.value(_NEXT, {"owner": key.peer_id, "peer_id": peer_id})
    made = sign_device(
        key,
        peer_id,
        seq,
        issued=int(database.value(_NOW)),
        label=label[:LABEL_CHARACTERS_LIMIT],
        is_revoked=is_revoked,
    )
    outcome = database.value(_STORE, _described(made) | {"record": made.record.hex()})
    if outcome != "new":
        raise IdentityError(
            "This database knows of as many devices as it can.",
            remedy="Let it forget them and adopt it again: pgpeer owner disown, pgpeer owner adopt.",
            code="quota",
        )
    return made


def _described(made: SignedDevice) -> dict[str, Any]:
    said = made.certificate
    return {
        "owner": said.owner,
        "peer_id": said.device,
        "label": said.label,
        "seq": said.seq,
        "is_revoked": said.is_revoked,
    }

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpeer.commit.cid import commit_id, digest_of, section_id
from pgpeer.commit.header import Header, SectionHeader
from pgpeer.commit.signature import sign_commit, verify_commit
from pgpeer.errors import CommitError
from pgpeer.identity.key import PrivateKey

KEY = PrivateKey.from_seed(b"k" * 32)

digests = st.binary(min_size=32, max_size=32)
integers = st.integers(min_value=1, max_value=2**63 - 1)
sorted_digests = st.lists(digests, max_size=5, unique=True).map(lambda items: tuple(sorted(items)))
messages = st.none() | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300
)
sections = st.builds(
    SectionHeader,
    relation_id=st.uuids(),
    op=st.sampled_from(["INSERT", "UPDATE", "DELETE", "SCHEMA"]),
    column_ids=st.lists(st.uuids(), max_size=30, unique=True).map(tuple),
    row_count=st.integers(0, 2**63 - 1),
    byte_count=st.integers(0, 2**63 - 1),
    digest=digests,
    unseen=sorted_digests,
)
headers = st.builds(
    Header,
    bundle_id=st.uuids(),
    author=digests,
    epoch=integers,
    seq=integers,
    previous=st.none() | digests,
    parents=sorted_digests,
    hlc=integers,
    schema=digests,
    message=messages,
    sections=st.lists(sections, max_size=4).map(tuple),
)

SECTION = SectionHeader(UUID(int=7), "UPDATE", (UUID(int=8),), 2, 30, b"s" * 32, (b"u" * 32,))
HEADER = Header(
    bundle_id=UUID(int=1),
    author=KEY.public_key,
    epoch=5,
    seq=2,
    previous=b"p" * 32,
    parents=(b"a" * 32, b"p" * 32),
    hlc=1 << 40,
    schema=b"f" * 32,
    message="two cities",
    sections=(SECTION,),
)


@settings(max_examples=60)
@given(headers)
def test_every_header_is_read_back_as_it_was(header: Header) -> None:
    encoded = header.encode()
    assert Header.decode(encoded) == header
    assert Header.decode(encoded).encode() == encoded


@settings(max_examples=60)
@given(headers, st.data())
def test_changed_bytes_are_refused_or_are_another_header(header: Header, data: st.DataObject) -> None:
    encoded = bytearray(header.encode())
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        other = Header.decode(bytes(encoded))
    except CommitError:
        return
    assert other != header
    assert other.encode() == bytes(encoded)


@given(st.binary(max_size=200))
def test_noise_is_refused_with_a_typed_error(noise: bytes) -> None:
    with pytest.raises(CommitError):
        Header.decode(noise)


@settings(max_examples=60)
@given(headers, st.data())
def test_a_header_that_is_cut_off_is_refused(header: Header, data: st.DataObject) -> None:
    encoded = header.encode()
    with pytest.raises(CommitError):
        Header.decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_bytes_after_the_header_are_refused() -> None:
    with pytest.raises(CommitError, match="follows its end"):
        Header.decode(HEADER.encode() + b"\0")


@pytest.mark.parametrize(
    ("honest", "forged"),
    [
        pytest.param(b"\x63seq\x02", b"\x63seq\x18\x02", id="number not in its shortest form"),
        pytest.param(b"\x63seq\x02", b"\x63seq\x1b" + b"\xff" * 8, id="number above bigint"),
        pytest.param(b"\x63seq\x02", b"\x63seq\x00", id="numbers count from one"),
        pytest.param(b"\x63hlc", b"\x63seq", id="keys in another order"),
        pytest.param(b"\xab\x63hlc", b"\xbf\x63hlc", id="map of open length"),
        pytest.param(b"\x67version\x01", b"\x67version\x02", id="another version"),
        pytest.param(b"\x66UPDATE", b"\x66VACUUM", id="unknown operation"),
        pytest.param(b"\x6atwo cities", b"\x6atwo c\xff\xfeies", id="message not UTF-8"),
        pytest.param(b"\x6atwo cities", b"\x6atwo c\x00\x00ies", id="message with NUL"),
        pytest.param(b"a" * 32, b"z" * 32, id="parents out of order"),
        pytest.param(b"a" * 32, b"p" * 32, id="a parent twice"),
        pytest.param(
            b"\x01\x55\x12\x20" + b"s" * 32, b"\x01\x71\x12\x20" + b"s" * 32, id="section as commit"
        ),
        pytest.param(b"\x64prev\xd8\x2a", b"\x64prev\xd8\x2b", id="another tag"),
        pytest.param(
            b"\x67columns\x81", b"\x67columns\x9a\xff\xff\xff\xff", id="four thousand million columns"
        ),
        pytest.param(b"\x66bundle\x50", b"\x66bundle\x5b" + b"\x7f" * 8, id="a length beyond memory"),
    ],
)
def test_a_forged_header_is_refused(honest: bytes, forged: bytes) -> None:
    encoded = HEADER.encode()
    assert honest in encoded
    with pytest.raises(CommitError):
        Header.decode(encoded.replace(honest, forged, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"author": b"short"},
        {"schema": b""},
        {"previous": b"p"},
        {"epoch": -1},
        {"epoch": 2**63},
        {"seq": 0},
        {"hlc": 0},
        {"parents": (b"b" * 32, b"a" * 32)},
        {"parents": tuple(number.to_bytes(32, "big") for number in range(1025))},
        {"message": "x" * 65_537},
        {"message": "\ud800"},
        {"sections": (SECTION,) * 65_537},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_header_outside_its_limits_cannot_be_made(change: dict) -> None:
    with pytest.raises(CommitError) as caught:
        replace(HEADER, **change)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"op": "MERGE"},
        {"column_ids": tuple(UUID(int=number) for number in range(1601))},
        {"column_ids": (UUID(int=1), UUID(int=1))},
        {"row_count": -1},
        {"byte_count": 2**63},
        {"digest": b"short"},
        {"unseen": (b"b" * 32, b"a" * 32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_section_outside_its_limits_cannot_be_made(change: dict) -> None:
    with pytest.raises(CommitError):
        replace(SECTION, **change)


def test_a_header_of_more_than_16_mebibytes_is_refused() -> None:
    unseen = tuple(number.to_bytes(32, "big") for number in range(60_000))
    many = replace(HEADER, sections=(replace(SECTION, unseen=unseen),) * 7)
    with pytest.raises(CommitError, match="16777216"):
        many.encode()
    with pytest.raises(CommitError, match="16777216"):
        Header.decode(bytes(16 * 1024 * 1024 + 1))


def test_a_signed_commit_verifies() -> None:
    verify_commit(HEADER.author, HEADER.digest, sign_commit(KEY, HEADER.digest))


def test_a_tampered_header_is_refused_by_its_signature() -> None:
    signature = sign_commit(KEY, HEADER.digest)
    tampered = replace(HEADER, message="three cities")
    with pytest.raises(CommitError) as caught:
        verify_commit(HEADER.author, tampered.digest, signature)
    assert caught.value.code == "bad_signature"


def test_a_signature_made_for_another_purpose_is_refused() -> None:
    with pytest.raises(CommitError):
        verify_commit(HEADER.author, HEADER.digest, KEY.sign("auth", HEADER.digest))


@given(digests)
def test_an_id_gives_back_its_digest(digest: bytes) -> None:
    assert digest_of(commit_id(digest)) == digest
    assert digest_of(section_id(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bafyrei",
        commit_id(b"d" * 32).upper(),
        commit_id(b"d" * 32)[:-1] + "b",
        commit_id(b"d" * 32)[:-1] + "1",
        "bafybei" + commit_id(b"d" * 32)[7:],
        commit_id(b"d" * 32) + "a",
    ],
)
def test_what_is_not_an_id_is_refused(text: str) -> None:
    with pytest.raises(CommitError):
        digest_of(text)

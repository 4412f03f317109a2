"""Whose commits are taken: examples, and random histories beside an oracle in plain Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
from merge.ghost import Ghost, insert
from merge.replica import Envelope, Replica
from merge.world import World

from .cast import Cast, key_of, peer
from .telling import tell

MakeWorld = Callable[..., World]
AUTHORS = ["bob", "cid", "dora", "eve"]


class Story:
    """One bundle whose authors have no databases, and what they commit and grant."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cast = Cast("ann", world.replicas[0].bundle_id)
        self.origin = world.latest()
        self.commits: dict[bytes, Envelope] = {}
        self.clock = self.origin.decoded().hlc
        self.relation, self.ids = world.ids()
        self.ghosts: dict[str, Ghost] = {}

    def commit(self, author: str, *parents: Envelope) -> Envelope:
        """A commit with a row of its own upon these, its author's last one, and the origin."""
        ghost = self.ghosts.get(author)
        if ghost is None:
            ghost = self.ghosts[author] = self.world.ghost()
            ghost.key = key_of(author)
        self.clock += 1
        key = str(1000 + len(self.commits))
        rows = {key: [author, key]}
        section = insert(self.relation, [self.ids["title"], self.ids["body"]], rows)
        before = [ghost.last] if ghost.last is not None else []
        made = ghost.commit(self.clock, [*(parents or [self.origin]), *before], [section])
        self.commits[made.digest] = made
        return made

    def author(self, envelope: Envelope) -> str:
        return next(one for one in AUTHORS if key_of(one).public_key == envelope.decoded().author)

    def ancestors(self, envelope: Envelope, known: set[bytes] | None = None) -> set[bytes]:
        """With the commit itself, of those in the story; `known`: as far as one sees who knows only these."""
        found: set[bytes] = set()
        pending = [envelope.digest]
        while pending:
            digest = pending.pop()
            if digest in self.commits and digest not in found:
                found.add(digest)
                if known is None or digest in known:
                    pending += self.commits[digest].decoded().parents
        return found

    def taken(self, known: Iterable[bytes], grants: Iterable[bytes]) -> set[bytes]:
        """The oracle: what writers have committed or built upon, or an admin has fenced in; parents here."""
        known = set(known)
        part = Cast("ann", self.cast.bundle_id)
        part.said = {digest: self.cast.said[digest] for digest in grants}
        roster = part.roster()
        seeds = {
            digest
            for digest in known
            if not roster.counted
            or roster.roles.get(peer(self.author(self.commits[digest]))) in ("writer", "admin")
            or digest in roster.fence
        }
        taken = {one for seed in seeds for one in self.ancestors(self.commits[seed], known)}
        return {one for one in taken if self.ancestors(self.commits[one]) <= known}

    def merged(self, replica: Replica) -> set[bytes]:
        return replica.merged() & set(self.commits)


@pytest.fixture
def story(world: MakeWorld) -> Story:
    return Story(world())


def kinds(replica: Replica) -> list[str]:
    return [row[0] for row in replica.problems()]


def test_without_grants_everybodys_commits_are_taken(story: Story) -> None:
    alice, _ = story.world.replicas
    made = story.commit("eve")
    alice.deliver([made])
    assert story.merged(alice) == {made.digest}
    assert not alice.value("SELECT peer_internal.is_enforced(%s)", alice.bundle_id)


def test_a_commit_of_a_reader_or_stranger_is_held_and_its_descendants_wait(story: Story) -> None:
    alice, _ = story.world.replicas
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "reader"), story.cast.say("ann", "cid", "writer")])
    bad = story.commit("bob")
    worse = story.commit("bob", bad)
    stranger = story.commit("eve")
    good = story.commit("cid")
    alice.deliver([bad, worse, stranger, good])
    assert story.merged(alice) == {good.digest}
    listed = [row for row in alice.problems() if row[0] == "not_a_writer"]
    assert len(listed) == 2, "the child waits for its parent and is no problem of its own"
    assert {row[1] for row in listed} == {"shelf"}
    assert any("only read it" in row[4] and peer("bob") in row[4] for row in listed)
    assert any("nobody has admitted it" in row[4] for row in listed)
    assert all(row[5] for row in listed)
    acknowledged = {head for _, _, _, head in alice.vector("merged")}
    assert not acknowledged & {bad.digest, worse.digest, stranger.digest}


def test_a_held_commit_is_merged_when_its_author_becomes_a_writer(story: Story) -> None:
    alice, _ = story.world.replicas
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "reader")])
    made = [story.commit("bob"), story.commit("bob")]
    alice.deliver(made)
    assert story.merged(alice) == set()
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "writer")])
    alice.merge()
    assert story.merged(alice) == {one.digest for one in made}
    assert "not_a_writer" not in kinds(alice)


def test_a_writer_who_built_upon_it_vouches_for_it(story: Story) -> None:
    alice, bob = story.world.replicas
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "writer"), story.cast.say("ann", "cid", "writer")])
    before = story.commit("bob")
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "removed")])
    late = story.commit("bob", before)
    alice.deliver([before, late])
    assert story.merged(alice) == set()
    voucher = story.commit("cid", before)
    alice.deliver([voucher])
    assert story.merged(alice) == {before.digest, voucher.digest}, "and nothing that it has not seen"
    tell(bob, peer("ann"), story.cast.said.values())
    bob.deliver([late, voucher, before])
    assert story.merged(bob) == story.merged(alice)


def test_the_last_commits_that_the_removing_admin_had_are_taken_by_everybody(story: Story) -> None:
    alice, bob = story.world.replicas
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "writer")])
    early, last = story.commit("bob"), story.commit("bob")
    alice.deliver([early, last])
    fence = alice.value(
        "SELECT peer_internal.last_commits(%s, %b)", alice.bundle_id, key_of("bob").public_key
    )
    assert [bytes(one) for one in fence] == [last.digest]
    removal = story.cast.say("ann", "bob", "removed", fence=[bytes(one) for one in fence])
    tell(alice, peer("ann"), [removal])
    later = story.commit("bob")
    tell(bob, peer("ann"), story.cast.said.values())
    for replica in (alice, bob):
        replica.deliver([later, last, early])
        assert story.merged(replica) == {early.digest, last.digest}
    assert alice.state_hash() == bob.state_hash()


def test_what_was_merged_before_the_removal_and_nobody_vouches_for_is_a_problem_until_somebody_does(
    story: Story,
) -> None:
    alice, bob = story.world.replicas
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "writer"), story.cast.say("ann", "cid", "writer")])
    made = story.commit("bob")
    alice.deliver([made])
    tell(alice, peer("ann"), [story.cast.say("ann", "bob", "removed")])
    assert "not_a_writer" in kinds(alice)
    voucher = story.commit("cid", made)
    alice.deliver([voucher])
    assert "not_a_writer" not in kinds(alice)
    tell(bob, peer("ann"), story.cast.said.values())
    bob.deliver([made, voucher])
    assert story.merged(bob) == story.merged(alice)


def test_a_header_whose_sections_are_under_way_vouches_already(story: Story) -> None:
    alice, _ = story.world.replicas
    tell(alice, peer("ann"), [story.cast.say("ann", "cid", "writer")])
    made = story.commit("eve")
    voucher = story.commit("cid", made)
    alice.deliver([made])
    assert story.merged(alice) == set()
    alice.receive_header(voucher)
    alice.merge()
    assert story.merged(alice) == {made.digest}


def test_a_reader_is_told_that_its_changes_stay_here(world: MakeWorld) -> None:
    w = world()
    alice, _ = w.replicas
    cast = Cast("ann", alice.bundle_id)
    tell(alice, peer("ann"), [cast.say("ann", "bob", "writer")])
    alice.value(
        "SELECT peer_internal.set_roster(%s, 1, %s::text[], %s::text[], %b::bytea[], '{}')",
        alice.bundle_id,
        [alice.key.peer_id],
        ["reader"],
        [b"\1"],
    )
    alice.write("INSERT INTO public.note VALUES (5, 'mine', 'only')")
    alice.commit()
    (problem,) = [row for row in alice.problems() if row[0] == "not_a_writer"]
    assert "Changes made here stay here" in problem[4]


def grow(story: Story, chance: random.Random) -> list[tuple[str, bytes]]:
    """A random history: commits upon anything, grants from any knowledge; in an order that they were made."""
    made: list[tuple[str, bytes]] = []
    story.cast.say("ann", "bob", "writer")
    made += [("grant", digest) for digest in story.cast.said]
    for _ in range(chance.randint(10, 18)):
        if chance.random() < 0.65:
            known = list(story.commits.values())
            parents = chance.sample(known, min(len(known), chance.randint(0, 2)))
            made.append(("commit", story.commit(chance.choice(AUTHORS), *parents).digest))
        else:
            said = list(story.cast.said.values())
            seen = chance.sample(said, 1) if chance.random() < 0.3 else None
            subject = chance.choice(AUTHORS)
            role = chance.choice(["writer", "writer", "reader", "removed", "admin"])
            own = [one for one in story.commits.values() if story.author(one) == subject]
            fence = [own[-1].digest] if own and role == "removed" and chance.random() < 0.5 else []
            issuer = chance.choice(["ann", "ann", "ann", *AUTHORS])
            made.append(("grant", story.cast.say(issuer, subject, role, seen, fence).digest))
    return made


@pytest.mark.parametrize("seed", range(12))
def test_members_with_the_same_commits_and_grants_take_the_same(world: MakeWorld, seed: int) -> None:
    chance = random.Random(seed)
    story = Story(world())
    alice, bob = story.world.replicas
    made = grow(story, chance)
    # one member hears in any order, piece by piece, and merges in between
    heard = chance.sample(made, len(made))
    commits: set[bytes] = set()
    grants: set[bytes] = set()
    merged: set[bytes] = set()
    while heard:
        piece, heard = heard[: (size := chance.randint(1, 5))], heard[size:]
        new = {digest for what, digest in piece if what == "grant"}
        grants |= new
        if new:
            tell(alice, peer("ann"), [story.cast.said[digest] for digest in new])
        arrived = [digest for what, digest in piece if what == "commit"]
        commits |= set(arrived)
        alice.receive([story.commits[digest] for digest in arrived])
        batch = chance.choice([1, 3, 100])
        while alice.merge(batch):  # a round of held commits ends one call of it
            pass
        merged |= story.taken(commits, grants)
        assert story.merged(alice) == merged, f"seed {seed}: {alice.problems()}"
    # the other one has all grants before any commit: it takes exactly what the rule says
    tell(bob, peer("ann"), story.cast.said.values())
    bob.deliver([story.commits[digest] for digest in chance.sample(sorted(commits), len(commits))])
    rule = story.taken(commits, grants)
    assert story.merged(bob) == rule, f"seed {seed}: {bob.problems()}"
    assert rule <= merged
    # what the first one has beyond that was merged before a removal, and a writer that builds upon it settles it
    if beyond := merged - rule:
        assert "not_a_writer" in kinds(alice)
        tops = [
            story.commits[one]
            for one in merged
            if not any(one in story.ancestors(story.commits[other]) for other in merged - {one})
        ]
        grant = story.cast.say("ann", "finn", "writer")
        AUTHORS.append("finn")
        try:
            voucher = story.commit("finn", *tops)
        finally:
            AUTHORS.remove("finn")
        for replica in (alice, bob):
            tell(replica, peer("ann"), [grant])
            replica.deliver([voucher])
        assert story.merged(bob) == story.merged(alice) >= beyond, f"seed {seed}"
        assert alice.state_hash() == bob.state_hash(), f"seed {seed}"

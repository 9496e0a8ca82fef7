"""Where the sentences of a search for heads come from, and the chunks they are counted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from attribution.errors import InputError
from attribution.heads.shuffled import shuffled_trees
from pipeline.data.treebanks import Sentence, load_treebank
from pipeline.keys import digest, file_digest


class Chunk(NamedTuple):
    """Sentences `start` to before `stop`: what says which texts these are, and which trees."""

    start: int
    stop: int
    texts: Any
    trees: Any


@dataclass(frozen=True)
class Grammar:
    """Sentences of the built-in grammar; those of a smaller `n` are the first of a larger one."""

    n: int
    seed: int

    def read(self) -> list[Sentence]:
        """The sentences."""
        from pipeline.data.grammar import grammar_treebank

        return grammar_treebank(self.n, self.seed)

    def chunks(self, size: int) -> list[Chunk]:
        """Chunks of `size` sentences. Seed and place are their content: nothing has to be generated."""
        ranges = _ranges(self.n, size)
        contents = ({"grammar": self.seed, "rows": rows} for rows in ranges)
        return [Chunk(*rows, content, content) for rows, content in zip(ranges, contents, strict=True)]


@dataclass(frozen=True)
class Treebank:
    """The first `limit` sentences of a file; if its content changes it is another treebank."""

    path: str
    sha256: str
    limit: int | None = None

    @classmethod
    def of(cls, path: str, limit: int | None, key: str) -> Treebank:
        """The treebank of a configuration key. InputError where there is no such file."""
        if not Path(path).is_file():
            raise InputError(f"conf error: {key}={path} is not a file.")
        return cls(str(Path(path).resolve()), file_digest(path), limit)

    def read(self) -> list[Sentence]:
        """The sentences. InputError where the file is not the one it was, or is another one on this machine."""
        sentences = load_treebank(self.path, self.limit)
        if file_digest(self.path) != self.sha256:
            raise InputError(f"conf error: heads: {self.path} is not the treebank that the run began with.")
        return sentences

    def chunks(self, size: int) -> list[Chunk]:
        """Chunks of `size` sentences in the order of the file; the last may be smaller."""
        return list(_chunks(self, size))


@dataclass(frozen=True)
class Shuffled:
    """The sentences of another corpus, each with a tree that is not its own: a control."""

    of: Grammar | Treebank
    seed: int

    def read(self) -> list[Sentence]:
        """The sentences."""
        shuffled = shuffled_trees(self.of.read(), self.seed)
        return [Sentence(text, list(words), list(heads), list(names)) for text, words, heads, names in shuffled]

    def chunks(self, size: int) -> list[Chunk]:
        """Chunks of `size` sentences; the last may be smaller."""
        return list(_chunks(self, size))


Source = Grammar | Treebank
Corpus = Source | Shuffled


@dataclass(frozen=True)
class TextFile:
    """The texts of a file; if its content changes it is another one."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: str | None, key: str) -> TextFile | None:
        """The texts of a configuration key, None where it is not set. InputError where there is no such file."""
        if path is None:
            return None
        if not Path(path).is_file():
            raise InputError(f"conf error: {key}={path} is not a file.")
        return cls(str(Path(path).resolve()), file_digest(path))

    def read(self) -> list[str]:
        """The texts."""
        from pipeline.data import load_texts

        return [example.text for example in load_texts(self.path, "heads.frequencies").examples]


@lru_cache(maxsize=8)  # the runs of a sweep and the stages of a plan ask again
def _chunks(treebank: Treebank | Shuffled, size: int) -> tuple[Chunk, ...]:
    sentences = treebank.read()
    return tuple(_chunk(sentences, start, stop) for start, stop in _ranges(len(sentences), size))


def _chunk(sentences: Sequence[Sentence], start: int, stop: int) -> Chunk:
    part = sentences[start:stop]
    return Chunk(start, stop, digest([sentence.text for sentence in part]), digest(part))


def _ranges(n: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, n)) for start in range(0, n, size)]

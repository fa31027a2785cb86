"""Captions as the tokens that caption metrics compare, by the Penn Treebank tokenizer in pycocoevalcap's folder.

The package's own wrapper is not used: it writes into the package's folder, which may be read-only, it goes on when
Java fails, and a line separator inside a caption (carriage return, U+2028 ...) silently shifts all later captions
by one. Here text goes through pipes, and as many lines must come back as went in. The tokens are the same.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tasks.task_scores import ScoringError

_TOKENIZER_CLASS = "edu.stanford.nlp.process.PTBTokenizer"
JAVA_REMEDY = "install Java 8 or newer (Debian: apt-get install default-jre-headless)"
PACKAGE_REMEDY = "pip install 'pave-video[eval]'"


def java_problem() -> str | None:
    """Why Java cannot be used, with the remedy; None where it can."""
    java = shutil.which("java")
    if java is None:
        return f"there is no java command; {JAVA_REMEDY}"
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{java} does not run ({' '.join(str(error).split())}); {JAVA_REMEDY}"
    if answer.returncode != 0:
        return f"{java} does not run ({' '.join(answer.stderr.split())}); {JAVA_REMEDY}"
    return None


def caption_problem() -> str | None:
    """Why captions cannot be scored here, with the remedy; None where they can."""
    if find_spec("pycocoevalcap") is None:
        return f"the package pycocoevalcap is not installed; {PACKAGE_REMEDY}"
    return java_problem()


def require_caption_tools() -> None:
    """To be asked before anything is generated. Raises ScoringError, with the remedy, where a tool is missing."""
    problem = caption_problem()
    if problem is not None:
        raise ScoringError(f"captions cannot be scored: {problem}")


def tokenize(captions: Sequence[str]) -> list[str]:
    """The tokens of each caption in lower case, a space between them, without punctuation.

    Raises ScoringError where pycocoevalcap or Java is missing or the tokenizer fails.
    """
    require_caption_tools()
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    lines = "".join(f"{one_line(caption)}\n" for caption in captions)
    answer = subprocess.run(
        ["java", "-cp", str(jar), _TOKENIZER_CLASS, "-preserveLines", "-lowerCase"],
        input=lines.encode("utf-8", "replace"),
        capture_output=True,
        check=False,
    )
    tokens = answer.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if answer.returncode != 0 or len(tokens) != len(captions):
        last = answer.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
        raise ScoringError(
            f"the tokenizer made {len(tokens)} lines of {len(captions)} captions, exit code {answer.returncode} "
            f"({last}); look for odd characters in the replies, and at `java -version`"
        )
    dropped = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(token for token in line.rstrip().split(" ") if token not in dropped) for line in tokens]


def one_line(text: str) -> str:
    """The text with a space for every line separator, U+2028, form feed and the like included."""
    return " ".join(text.splitlines())

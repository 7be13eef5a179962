"""The pages of README.md and docs/ as a program sees them.

    pages.py check ROOT            what is wrong with them, a line each; exit code 1 if anything is. Asks `wsi help`.
    pages.py blocks ROOT OUT PAGE… every command block as OUT/<n>.sh, and a line of tabs for each: page, line, file, what it needs
    pages.py after ROOT PAGE       the page whose outputs this one goes on with, if any
"""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

# What stands in a fence. Commands are `sh` and are run; nothing else is.
LANGUAGES = {"sh", "toml", "rust", "text", "csv", "json", "html"}
# What a block may ask for, `<!-- needs: gpu -->` on the line above it; run.sh knows how to tell.
NEEDS = {"gpu", "slurm", "archive", "fuzz"}

FENCE = re.compile(r"^( *)(```+|~~~+)\s*(\S*)\s*$")
COMMENT = re.compile(r"^<!-- (needs|after): (.+?) -->$")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
CALL = re.compile(r"^(?:\./run )?wsi ([^#|]*)")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
# A file of the checkout; `x.rs` and `NAME.toml` stand for any.
PLACE = re.compile(r"^(docs|configs|pipelines|src|tests)/(?!.*\b(x|[A-Z]+)\.)[\w./-]*\w/?$")


def pages(root):
    return [Path("README.md"), *sorted(path.relative_to(root) for path in (root / "docs").glob("*.md"))]


class Block:
    def __init__(self, line, language, needs):
        self.line, self.language, self.needs, self.text = line, language, needs, []


class Page:
    """A page: its fenced blocks, its prose with the blocks left out, and what is wrong with its form."""

    def __init__(self, root, path):
        self.path, self.blocks, self.prose, self.wrong, self.after = path, [], [], [], None
        needs, block, indent, fence = [], None, 0, ""
        before = ""
        for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
            found = FENCE.match(line)
            if block is not None:
                if found and found[2].startswith(fence) and not found[3]:
                    block = None
                else:
                    block.text.append(line[indent:] if not line[:indent].strip() else line)
                self.prose.append("")
                before = line
                continue
            if found:
                indent, fence = len(found[1]), found[2]
                block = Block(number, found[3], needs)
                self.blocks.append(block)
                needs = []
                self.prose.append("")
            elif comment := COMMENT.match(line):
                if comment[1] == "after":
                    self.after = comment[2]
                else:
                    needs = comment[2].split()
                self.prose.append("")
            else:
                if needs:
                    self.wrong.append((number, "a comment 'needs' stands directly above its block"))
                    needs = []
                if line.startswith("    ") and not before.strip() and line.strip():
                    self.wrong.append((number, "an indented block; put it between fences that name its language"))
                self.prose.append(line)
            before = line
        if block is not None:
            self.wrong.append((block.line, "a fence that is never closed"))


@cache
def words_of(*verbs):
    """Flags and, where a verb has them, verbs of its own; None where there is no such verb."""
    answer = subprocess.run(["wsi", "help", *verbs], capture_output=True, text=True)
    if answer.returncode != 0:
        return None
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", answer.stdout))
    commands, heading = set(), ""
    for line in answer.stdout.splitlines():
        if re.match(r"[A-Z].*:$", line):
            heading = line
        elif heading not in {"", "Options:", "Arguments:"} and (verb := re.match(r"  ([a-z][a-z-]*)(  |$)", line)):
            commands.add(verb[1])
    return flags, commands


def wrong_command(words):
    """What is wrong with a call of the program: verbs and flags must exist."""
    verbs = []
    known = words_of()
    for word in words:
        if re.fullmatch(r"[a-z-]+", word) and known[1] and not word.startswith("-"):
            if word not in known[1]:
                return f"there is no `wsi {' '.join([*verbs, word])}`"
            verbs.append(word)
            known = words_of(*verbs)
        elif flag := re.match(r"\[?(--[a-z][\w-]*)", word):
            if flag[1] not in known[0] | {"--help", "--version"}:
                return f"`wsi {' '.join(verbs)}` has no {flag[1]}"
    return None


def words_of_run(root):
    """The words of the one script, and those of its tests."""
    script = (root / "run").read_text(encoding="utf-8")
    words = re.findall(r"^  ([a-z][a-z-]*)(?: \|[^)]*)?\)", script[script.index('case "${1:-help}" in') :], re.M)
    tests = script[script.index("run_tests()") : script.index("test_slurm()")]
    return set(words), set(re.findall(r"^    ([a-z]+)\)", tests, re.M)) | set(re.findall(r'"\$\{1:-all\}" = ([a-z]+)', tests))


def wrong_word(root, words):
    known, tests = words_of_run(root)
    if not words or not re.fullmatch(r"[a-z-]+", words[0]):
        return None
    if words[0] not in known:
        return f"there is no `./run {words[0]}`"
    if words[0] == "wsi":
        return wrong_command(words[1:])
    if words[0] == "test" and len(words) > 1 and re.fullmatch(r"[a-z]+", words[1]) and words[1] not in tests:
        return f"there is no `./run test {words[1]}`"
    return None


def wrong_prose(root, page):
    text = "\n".join(page.prose)
    line_of = lambda at: text.count("\n", 0, at) + 1
    for found in LINK.finditer(text):
        target = found[3].split("#")[0]
        if found[1] and not found[2].strip():
            yield line_of(found.start()), f"the picture {target} has no words for those who do not see it"
        if target and not re.match(r"[a-z]+:", target) and not (root / page.path.parent / target).exists():
            yield line_of(found.start()), f"{target} is not there"
    for found in SPAN.finditer(text):
        words = found[1].split()
        wrong = None
        if words[:1] == ["wsi"]:
            wrong = wrong_command(words[1:])
        elif words[:1] == ["./run"]:
            wrong = wrong_word(root, words[1:])
        elif len(words) == 1 and PLACE.match(words[0]) and not (root / words[0]).exists():
            wrong = f"{words[0]} is not there"
        if wrong:
            yield line_of(found.start()), wrong


def wrong_blocks(page):
    for block in page.blocks:
        if block.language not in LANGUAGES:
            yield block.line, f"a block of '{block.language}'; commands are sh, all else is one of {', '.join(sorted(LANGUAGES - {'sh'}))}"
        for word in set(block.needs) - NEEDS:
            yield block.line, f"nothing is known of the need '{word}'; there are {', '.join(sorted(NEEDS))}"
        if block.needs and block.language != "sh":
            yield block.line, "only a block of commands can need something"
        for number, line in enumerate(block.text, block.line + 1):
            found = CALL.match(line)
            if found and block.language != "sh":
                yield number, f"a command in a block of {block.language}, where nothing runs it"
            elif found and (wrong := wrong_command(found[1].split())):
                yield number, wrong


def wrong_book(root, all_pages):
    """The book has every page, and pages show every picture."""
    chapters = {Path("docs") / found[3] for found in LINK.finditer((root / "docs/SUMMARY.md").read_text(encoding="utf-8"))}
    for page in all_pages:
        if page.path.parent == Path("docs") and page.path.name != "SUMMARY.md" and page.path not in chapters:
            yield Path("docs/SUMMARY.md"), 1, f"{page.path} is not in it"
    shown = {os.path.normpath(page.path.parent / found[3]) for page in all_pages for found in LINK.finditer("\n".join(page.prose))}
    for picture in sorted((root / "docs/pictures").iterdir()):
        if str(picture.relative_to(root)) not in shown:
            yield picture.relative_to(root), 1, "no page shows it"


def check(root):
    all_pages = [Page(root, path) for path in pages(root)]
    names = {str(page.path) for page in all_pages}
    wrong = [(page.path, *one) for page in all_pages for one in [*page.wrong, *wrong_blocks(page), *wrong_prose(root, page)]]
    wrong += [(page.path, 1, f"it goes on after {page.after}, which is no page") for page in all_pages if page.after not in names | {None}]
    wrong += wrong_book(root, all_pages)
    for path, line, what in sorted(wrong, key=lambda one: (str(one[0]), one[1])):
        print(f"{path}:{line}: {what}")
    return 1 if wrong else 0


def main(word, root, *rest):
    root = Path(root)
    if word == "check":
        return check(root)
    if word == "after":
        print(Page(root, Path(rest[0])).after or "")
        return 0
    out, number = Path(rest[0]), 0
    for path in rest[1:]:
        for block in Page(root, Path(path)).blocks:
            if block.language == "sh":
                number += 1
                file = out / f"{number}.sh"
                file.write_text("\n".join(block.text) + "\n", encoding="utf-8")
                print(path, block.line, file, ",".join(block.needs) or "-", sep="\t")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

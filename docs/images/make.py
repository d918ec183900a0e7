"""Draws the pictures of the documentation from what the commands really print and write.

python docs/images/make.py        writes docs/images/*.svg and *.png
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

FOLDER = Path(__file__).parent
COMMANDS = {"list.svg": ["list", "--task", "nuclei"]}

# rich's own frame fetches a font from elsewhere; ours takes the reader's.
FRAME = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<rect width="100%" height="100%" rx="8" fill="#292929"/>
<g class="{unique_id}-matrix" transform="translate(6, 4)">{matrix}</g>
</svg>
"""


def main() -> None:
    for name, arguments in COMMANDS.items():
        (FOLDER / name).write_text(drawn(arguments), encoding="utf-8")
        print(FOLDER / name)
    segmented(FOLDER / "nuclei.png")
    print(FOLDER / "nuclei.png")


def segmented(path: Path) -> None:
    """The overlay of the sample image, cropped."""
    aiod = Path(sys.executable).with_name("aiod")
    sample = FOLDER.parents[1] / "src" / "aiod" / "samples" / "nuclei_2d.ome.tif"
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "--task", "nuclei", str(sample), "--out", folder]
        subprocess.run([aiod, *words], check=True, capture_output=True)
        with Image.open(Path(folder, "nuclei_2d_nuclei.png")) as picture:
            picture.crop((0, 340, 1024, 860)).save(path, optimize=True)


def drawn(arguments: list[str]) -> str:
    """A command and its output as a picture of a terminal."""
    aiod = Path(sys.executable).with_name("aiod")
    world = {**os.environ, "PYTHONUTF8": "1", "COLUMNS": "100"}
    done = subprocess.run(
        [aiod, *arguments], env=world, capture_output=True, encoding="utf-8", check=True
    )
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=102, file=nowhere)
        console.print(Text(f"$ aiod {' '.join(arguments)}", style="bold"))
        for line in done.stdout.splitlines():
            console.print(Text(f" {line.rstrip()}"))
        console.print()  # room below the last line
        return console.export_svg(theme=MONOKAI, code_format=FRAME, unique_id="aiod")


if __name__ == "__main__":
    main()

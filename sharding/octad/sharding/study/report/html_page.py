"""One self-contained page: figures inline, tables that sort at a click. Nothing is loaded."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from octad.sharding.study.report.plots import apply_style

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}}
table{{border-collapse:collapse;font-size:13px;margin:1rem 0}}
th,td{{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e7ed}}
th{{cursor:pointer;position:sticky;top:0;background:#fff}}
td:first-child,th:first-child{{text-align:left}}
tr.ours td{{font-weight:600;color:#0b6e4f}}
figure{{display:inline-block;margin:.5rem}}svg{{max-width:100%;height:auto}}
</style></head><body><h1>{title}</h1>
"""
_SORTING = """<script>
for (const head of document.querySelectorAll('th')) head.onclick = () => {
  const body = head.closest('table').tBodies[0], place = head.cellIndex;
  const value = row => { const text = row.cells[place].textContent, number = parseFloat(text);
    return isNaN(number) ? text : number; };
  const rows = [...body.rows], sign = head.dataset.sign = head.dataset.sign == '1' ? '-1' : '1';
  rows.sort((a, b) => (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0) * sign);
  body.append(...rows);
};
</script></body></html>
"""


def html_page(
    title: str,
    paragraphs: Sequence[str],
    figures: Mapping[str, Figure],
    tables: Mapping[str, Sequence[Sequence[str]]],
    ours: str,
) -> str:
    """The page; the first row of a table is its head, rows whose first cell is `ours` stand out."""
    parts = [_HEAD.format(title=escape(title))]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs]
    parts += [f"<figure>{_inline(figure)}</figure>" for figure in figures.values()]
    for caption, rows in tables.items():
        parts += [f"<h2>{escape(caption)}</h2>", _table(rows, ours)]
    return "\n".join([*parts, _SORTING])


def _inline(figure: Figure) -> str:
    out = io.StringIO()
    apply_style()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "octad"})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _table(rows: Sequence[Sequence[str]], ours: str) -> str:
    head = "".join([f"<th>{escape(cell)}</th>" for cell in rows[0]])
    body = []
    for row in rows[1:]:
        mark = ' class="ours"' if row[0] == ours else ""
        body.append(f"<tr{mark}>" + "".join([f"<td>{escape(cell)}</td>" for cell in row]) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"

# SPDX-License-Identifier: Apache-2.0
"""Draws bars as SVG, by hand: no library, no script, readable on a light and on a dark page."""

from dataclasses import dataclass
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    least: float
    most: float
    text: str  # the value, as it is written at the bar's end
    kind: str  # "ours", "peer", or "load" for what is no tunnel


@dataclass(frozen=True)
class Panel:
    heading: str
    more_is_better: bool
    bars: list


# Mid tones: enough contrast against white and against near black.
_TEXT, _FAINT, _ON_BAR = "#768089", "#8c959f", "#ffffff"
_FILL = {"ours": "#3b82d6", "peer": "#9a7b4f", "load": "#8c959f"}

_COLUMNS = 2
_WIDTH, _LABELS, _VALUES, _GAP = 500, 196, 50, 16  # of a panel
_ROW, _BAR, _HEADING, _BELOW = 22, 13, 34, 22


def svg(panels):
    panels = [panel for panel in panels if panel.bars]
    body, top, width = [], 8, _COLUMNS * _WIDTH + (_COLUMNS - 1) * _GAP
    for begin in range(0, len(panels), _COLUMNS):
        line = panels[begin : begin + _COLUMNS]
        for column, panel in enumerate(line):
            body += _panel(panel, column * (_WIDTH + _GAP), top)
        top += _HEADING + _ROW * max(len(panel.bars) for panel in line) + _BELOW
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" '
        f'height="{top}" role="img" font-family="system-ui, sans-serif" font-size="13">',
        "<title>Tunnels side by side: medians, with the least and the most of all rounds</title>",
        *body, "</svg>\n",
    ])


def _panel(panel, left, top):
    better = "longer is better" if panel.more_is_better else "shorter is better"
    out = [
        f'<text x="{left}" y="{top + 14}" fill="{_TEXT}"><tspan font-weight="600">'
        f'{escape(panel.heading)}</tspan><tspan dx="8" font-size="11" fill="{_FAINT}">'
        f"{better}</tspan></text>"
    ]
    room = _WIDTH - _LABELS - _VALUES
    # What is no tunnel must not make all others short; where it does not fit, its bar is torn.
    tunnels = [bar.most for bar in panel.bars if bar.kind != "load"]
    full = max(tunnels or [bar.most for bar in panel.bars]) or 1
    zero = left + _LABELS
    for number, bar in enumerate(panel.bars):
        y = top + _HEADING + number * _ROW
        middle = y + _BAR / 2
        torn = bar.value > full
        length = room * min(bar.value / full, 1)
        out.append(f'<text x="{zero - 8}" y="{middle + 4.5:g}" text-anchor="end" fill="{_TEXT}">'
                   f"{escape(bar.label)}</text>")
        out.append(f'<rect x="{zero}" y="{y}" width="{max(length, 1):.1f}" height="{_BAR}" rx="2" '
                   f'fill="{_FILL[bar.kind]}"/>')
        end = zero + length
        if torn:
            out += [_line(end - 16 + d, y + _BAR + 2, end - 10 + d, y - 2, 2) for d in (0, 5)]
        elif bar.most > bar.least:
            low, high = (zero + room * v / full for v in (bar.least, min(bar.most, full)))
            out += [_line(low, middle, end, middle, 1, _ON_BAR),
                    _line(low, middle - 4, low, middle + 4, 1, _ON_BAR),
                    _line(end, middle, high, middle, 1),
                    _line(high, middle - 4, high, middle + 4, 1)]
            end = max(end, high)
        out.append(f'<text x="{end + 6:.1f}" y="{middle + 4.5:g}" fill="{_TEXT}">'
                   f"{escape(bar.text)}</text>")
    return out


def _line(x1, y1, x2, y2, width, colour=_TEXT):
    return (f'<line x1="{x1:.1f}" y1="{y1:g}" x2="{x2:.1f}" y2="{y2:g}" stroke="{colour}" '
            f'stroke-width="{width}"/>')

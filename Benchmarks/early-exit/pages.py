"""Markdown tables and SVG figures of what table.py found. Standard library only."""

import math

COLORS = {  # by measure: on light and on dark ground
    "softmax": ("#1f6fb4", "#6cb4ee"),
    "saturation": ("#b5651d", "#e8a860"),
    "classifier": ("#2a7f4f", "#62c68d"),
}
RULES = {"crc": "CRC", "ucb": "UCB", "ltt": "LTT"}
TITLES = {"summaries": "Summaries of abstracts, 1 − ROUGE-L", "answers": "Answers from a paragraph, 1 − token F1"}


def tables(rows, tested, policies, clock_documents):
    text = []
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        sets = ", ".join(
            f"{measure} {layers} (λ "
            + (f"≥ {values})" if option == "--lowest" else f"of {values.split(',')[0]} … {values.split(',')[-1]})")
            for measure, (layers, option, values) in policies[task].items()
        )
        text += [
            f"### {TITLES[task]}",
            "",
            f"Exit layers and lowest threshold: {sets}. Thresholds are calibrated on n documents. Test risk (± standard "
            f"error), layers and bytes are measured on {tested[task]} others, and time on the first {clock_documents} of "
            "these: milliseconds a token with exits / at full depth in the same process, and their ratio. ≤ marks figures of "
            "the next safer threshold measured. 1 stands for full depth, where nothing past it is certified.",
            "",
            "Violations are counted out of 100. For the first number, calibration sets are drawn with replacement from all "
            "documents, and it counts those for which the mean loss over all documents is above ε. UCB and LTT may fail so "
            "with δ = 0.1; CRC bounds the mean only. The number in brackets counts random splits whose test half has a mean "
            "above ε. Sampling alone does that where the risk is near ε.",
            "",
        ]
        for size in sorted({row["n"] for row in mine}):
            text += [
                f"n = {size}",
                "",
                "| measure | rule | ε | λ | test risk | layers | MB a token | ms a token | ratio | violations |",
                "|---|---|---|---|---|---|---|---|---|---|",
            ]
            text += [line(row) for row in mine if row["n"] == size]
            text.append("")
    return "\n".join(text)


def line(row):
    full = row["threshold"] >= 1
    risk = (
        "0"
        if full
        else f"{row['risk']:.4f} ± {row['error']:.4f}" + (" **> ε**" if row["risk"] > row["epsilon"] else "")
    )
    about = "" if full or row.get("clock_threshold") == row["threshold"] else "≤ "
    times = "" if "milliseconds" not in row else f"{row['milliseconds']:.2f} / {row['full_milliseconds']:.2f}"
    ratio = "1" if full else "not measured" if "ratio" not in row else f"{about}{row['ratio']:.3f}"
    violations = f"{row['resampled']['violations']} ({row['split']['violations']})"
    return (
        "| "
        + " | ".join(
            [
                row["measure"],
                RULES[row["rule"]],
                f"{row['epsilon']:g}",
                "1" if full else f"{row['threshold']:.4f}",
                risk,
                f"{row['layers']:.1f}",
                f"{row['megabytes']:.1f}",
                times,
                ratio,
                violations,
            ]
        )
        + " |"
    )


STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #ddd }
.bound { stroke: #999; stroke-dasharray: 5 4; fill: none }
.line { fill: none; stroke-width: 2 }
"""


def style(colors=COLORS):
    text, dark = STYLE, "text { fill: #ddd } .grid { stroke: #444 } .bound { stroke: #888 }\n"
    for name, (light, other) in colors.items():
        text += f".{name} {{ stroke: {light} }} .dot.{name}, text.{name} {{ fill: {light}; stroke: none }}\n"
        dark += f".{name} {{ stroke: {other} }} .dot.{name}, text.{name} {{ fill: {other}; stroke: none }}\n"
    return f"<style>{text}@media (prefers-color-scheme: dark) {{ {dark} }}</style>"


def figure(rows, task, rule="ucb"):
    """Test risk over epsilon above the time of a token over epsilon, a column for each n."""
    sizes = sorted({row["n"] for row in rows})
    epsilons = sorted({row["epsilon"] for row in rows})
    mine = [row for row in rows if row["rule"] == rule]
    width, height, left, top, gap = 270, 190, 56, 52, 60
    total = (left + len(sizes) * (width + 44) + 8, top + 2 * height + gap + 84)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]} {total[1]}" role="img" width="{total[0]}">',
        f"<title>{TITLES[task]}: test risk and time of a token over epsilon</title>",
        style(),
        f'<text class="title" x="{left}" y="18">{TITLES[task]} ({RULES[rule]}, δ = 0.1)</text>',
    ]
    lowest = min([0] + [row["risk"] - row["error"] for row in mine])
    low = 0.02 * math.floor(lowest / 0.02)
    ratios = [row["ratio"] for row in mine if "ratio" in row]
    floor = min([0.6] + [math.floor(ratio * 10) / 10 for ratio in ratios])
    ceiling = max([1.0] + [math.ceil(ratio * 10) / 10 for ratio in ratios])
    panels = [("test risk", low, max(epsilons), "risk"), ("time of a token, full depth = 1", floor, ceiling, "ratio")]
    for column, size in enumerate(sizes):
        x0 = left + column * (width + 44)

        def x(epsilon):
            # Equal steps: the epsilons double or so.
            return x0 + 16 + epsilons.index(epsilon) * (width - 32) / (len(epsilons) - 1)

        for number, (name, bottom, ceiling, key) in enumerate(panels):
            y0 = top + number * (height + gap)

            def y(value):
                return y0 + height * (1 - (value - bottom) / (ceiling - bottom))

            heading = f"{name}, n = {size}"
            parts.append(f'<text x="{x0}" y="{y0 - 10}">{heading}</text>')
            count = round((ceiling - bottom) / (0.02 if key == "risk" else 0.1))
            for step in range(count + 1):
                value = bottom + (ceiling - bottom) * step / count
                parts.append(
                    f'<line class="grid" x1="{x0}" x2="{x0 + width}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
                )
                if column == 0:
                    parts.append(f'<text x="{x0 - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
            for epsilon in epsilons:
                parts.append(
                    f'<text x="{x(epsilon):.1f}" y="{y0 + height + 16}" text-anchor="middle">{epsilon:g}</text>'
                )
            bound = [(epsilon, epsilon if key == "risk" else 1.0) for epsilon in epsilons]
            parts.append(polyline("bound", [(x(e), y(value)) for e, value in bound]))
            for place, measure in enumerate(COLORS):
                cells = {row["epsilon"]: row for row in mine if row["measure"] == measure and row["n"] == size}
                points = []
                for epsilon in epsilons:
                    row = cells.get(epsilon)
                    if row is None or key not in row:
                        continue
                    points.append((x(epsilon) + 3 * (place - 1), y(row[key])))
                    if key == "risk" and row["threshold"] < 1:
                        ends = [max(bottom, min(ceiling, row[key] + sign * row["error"])) for sign in (-1, 1)]
                        parts.append(
                            f'<line class="line {measure}" style="stroke-width:1" x1="{points[-1][0]:.1f}" '
                            f'x2="{points[-1][0]:.1f}" y1="{y(ends[0]):.1f}" y2="{y(ends[1]):.1f}"/>'
                        )
                parts.append(polyline(f"line {measure}", points))
                parts += [f'<circle class="dot {measure}" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>' for a, b in points]
    foot = top + 2 * height + gap + 40
    parts.append(f'<text x="{left}" y="{foot}">ε</text>')
    for place, measure in enumerate(COLORS):
        parts.append(f'<text class="{measure}" x="{left + 30 + 110 * place}" y="{foot}">● {measure}</text>')
    parts.append(f'<text x="{left + 370}" y="{foot}">dashed: ε, and full depth</text>')
    return "\n".join([*parts, "</svg>", ""])


def polyline(name, points):
    return f'<polyline class="{name}" points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>'

"""The results as pictures: an SVG and a PNG each."""
import math

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402 after the choice of what draws

from . import claims, figures  # noqa: E402
from .measures.case import Case  # noqa: E402

# One colour for each forwarder in all pictures, told apart by the colour-blind, too (Okabe, Ito).
COLOURS = {
    "lotus": "#d55e00", "passthrough": "#e69f00", "bridge": "#999999", "nft": "#0072b2",
    "ovs": "#117733", "ovs-afxdp": "#44aa99", "testpmd": "#882255", "testpmd-afxdp": "#cc79a7",
}
# Colour and marker of each; variants of lotus join as they come, and keep theirs in all pictures.
LOOKS = {name: (colour, marker) for (name, colour), marker in zip(COLOURS.items(), "osvD^<P>")}
VARIANTS = [("#56b4e9", "*"), ("#000000", "X"), ("#f0e442", "d"), ("#661100", "p")]
STYLE = {
    "font.family": "sans-serif", "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.8,
    "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "lotus",
    "figure.constrained_layout.use": True,
}
DOTS_PER_INCH = 130
PERCENTILES = {"50": "p50 us", "90": "p90 us", "99": "p99 us", "99.9": "p99.9 us", "max": "max us"}


def draw(folder, results):
    """Draws what there are values for and says which pictures it made."""
    rows = Rows(results)
    drawn = []
    with pyplot.rc_context(STYLE):
        for name, picture in PICTURES.items():
            figure = picture(rows)
            if figure is None:
                continue
            machine = results["machine"]
            figure.text(0.995, 0.002, f"{machine['processor']}, Linux {machine['kernel']}, "
                        f"{machine['date']}, commit {machine['commit']}, "
                        + ("one round" if results["rounds"] == 1 else f"medians of "
                           f"{results['rounds']} rounds, bars and bands: lowest to highest"),
                        ha="right", va="bottom", fontsize=6.5, color="#777777")
            for ending in ("svg", "png"):
                # No date inside: the same results are the same file.
                metadata = {"Date": None} if ending == "svg" else None
                figure.savefig(f"{folder}/{name}.{ending}", dpi=DOTS_PER_INCH, metadata=metadata)
            pyplot.close(figure)
            drawn.append(f"{name}.svg, .png")
    return drawn


class Rows:
    """The raw values, asked by what they are of."""

    def __init__(self, results):
        self.rows, self.forwarders = results["rows"], results["forwarders"]

    def cases(self, measure, quantity, **params):
        """(case, forwarder -> values) of those cases that have these parameters."""
        chosen = [row for row in self.rows
                  if row["measure"] == measure and row["quantity"] == quantity
                  and all(row["case"].get(key) == value for key, value in params.items())]
        return [(dict(case), {name: list(values[name].values())
                              for name in self.forwarders if name in values})
                for case, values in claims.by_case(chosen)]

    def values(self, measure, quantity, **params):
        """forwarder -> values of the only such case."""
        found = self.cases(measure, quantity, **params)
        return found[0][1] if found else {}


def look(name):
    """A forwarder's colour and marker."""
    return LOOKS.setdefault(name, VARIANTS[len(LOOKS) % len(VARIANTS)])


def bars(axes, groups, unit, digits=True):
    """`groups`: (label, forwarder -> values). A bar for each forwarder in each group."""
    groups = [(label, values) for label, values in groups if values]
    there = dict.fromkeys(name for _, values in groups for name in values)
    names = [name for name in COLOURS if name in there]
    names += [name for name in there if name not in COLOURS]
    width = 0.84 / max(1, len(names))
    for at, name in enumerate(names):
        for place, (_, values) in enumerate(groups):
            if name not in values:
                continue
            centre = figures.middle(values[name])
            x = place - 0.42 + (at + 0.5) * width
            axes.bar(x, centre, width * 0.92, color=look(name)[0],
                     label=name if name not in axes.get_legend_handles_labels()[1] else None)
            if len(values[name]) > 1:
                axes.errorbar(x, centre, [[centre - min(values[name])],
                                          [max(values[name]) - centre]],
                              color="#333333", linewidth=0.9, capsize=2)
            if digits:
                axes.annotate(figures.short(centre), (x, max(values[name])), (0, 2),
                              textcoords="offset points", ha="center", va="bottom", rotation=90,
                              fontsize=7, color="#444444")
    axes.set_xticks(range(len(groups)), [label for label, _ in groups])
    axes.set_ylabel(unit)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_ylim(0, axes.get_ylim()[1] * (1.12 if digits else 1.02))
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", length=0)
    return bool(groups)


def line(axes, name, points):
    """`points`: (x, values). The median as a line, lowest to highest as a band."""
    points = sorted(points)
    xs = [x for x, _ in points]
    axes.fill_between(xs, [min(values) for _, values in points],
                      [max(values) for _, values in points], color=look(name)[0], alpha=0.13,
                      linewidth=0)
    axes.plot(xs, [figures.middle(values) for _, values in points], color=look(name)[0],
              marker=look(name)[1], markersize=5, linewidth=1.8, label=name)


def finished(figure, title):
    """The title, and one legend for all panels, in lines of their own above them."""
    found = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels()):
            found.setdefault(name, handle)
    names = sorted(found, key=lambda name: list(COLOURS).index(name) if name in COLOURS else 99)
    width, height = figure.get_size_inches()
    # At their usual size that many names find room side by side.
    columns = min(len(names), max(1, int(width / INCHES_A_NAME)))
    lines = math.ceil(len(names) / columns)
    title_at = 1 - 0.12 / height
    legend_at = 1 - 0.40 / height
    top = 1 - (0.45 + INCHES_A_LINE * lines) / height
    figure.suptitle(title, x=0.1 / width, y=title_at, ha="left", va="top", fontweight="bold",
                    fontsize=14)
    figure.legend([found[name] for name in names], names, ncol=columns, fontsize=9.5,
                  loc="upper left", bbox_to_anchor=(0, legend_at), borderaxespad=0.2,
                  columnspacing=1.4, handlelength=1.6)
    bottom = 0.22 / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, top - bottom), h_pad=0.08, w_pad=0.08)
    return figure


INCHES_A_NAME, INCHES_A_LINE = 1.12, 0.22


def throughput(rows):
    size = {"size": 64, "flows": 1000, "ways": 1}
    rate = "received kframes/s"
    at_64 = [("saturated", rows.values("udp", rate, **size, core="whole")),
             (f"loss below {figures.NO_LOSS_BOUND:.1%}",
              rows.values("udp", "no-loss kframes/s", **size, core="whole")),
             ("saturated, half a core", rows.values("udp", rate, **size, core="half"))]
    by_size = [(f"{case['size']} B\n{'both ways' if case['ways'] == 2 else 'one way'}", values)
               for case, values in sorted(rows.cases("udp", "received Mbit/s", core="whole",
                                                     flows=1000),
                                          key=lambda each: (each[0]["ways"], each[0]["size"]))]
    if not any(values for _, values in at_64 + by_size):
        return None
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 5.2), width_ratios=(3, 4))
    left.set_title("64-byte frames")
    bars(left, at_64, "thousand frames a second")
    right.set_title("by size of frame, saturated")
    bars(right, by_size, "Mbit/s")
    return finished(figure, "UDP throughput, 1,000 flows")


def by_flows(rows):
    panels = [(title, rows.cases("udp", quantity, size=64, ways=1, core=core))
              for title, quantity, core in (
                  ("saturated, a core", "received kframes/s", "whole"),
                  ("saturated, half a core", "received kframes/s", "half"),
                  (f"loss below {figures.NO_LOSS_BOUND:.1%}", "no-loss kframes/s", "whole"))]
    panels = [(title, cases) for title, cases in panels if len(cases) > 1]
    if not panels:
        return None
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(1 + 4.6 * len(panels), 4.9),
                                       sharey=True, squeeze=False)
    for axes, (title, cases) in zip(all_axes[0], panels):
        for name in rows.forwarders:
            points = [(case["flows"], values[name]) for case, values in cases if name in values]
            if points:
                line(axes, name, points)
        axes.set_xscale("log")
        flows = sorted({case["flows"] for case, _ in cases})
        axes.set_xticks(flows, [figures.flows_text(number) for number in flows])
        axes.minorticks_off()
        axes.set_xlabel("flows")
        axes.set_title(title)
        axes.set_ylim(bottom=0)
    all_axes[0][0].set_ylabel("thousand frames a second")
    return finished(figure, "UDP throughput by number of flows, 64-byte frames")


def overload(rows):
    from .measures.frames import LOADS
    saturated = rows.values("overload", "saturated kframes/s")
    if not saturated:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 5.4))
    for name in rows.forwarders:
        points = []
        for load in LOADS:
            received, offered = (
                rows.values("overload", f"{what} at {load:g} x kframes/s").get(name)
                for what in ("received", "offered"))
            if not received or not offered:
                continue
            # Against the rate of the same round: forwarders with parts of a core are comparable.
            base = saturated[name]
            points.append((figures.middle([value / unit for value, unit in zip(offered, base)]),
                           [value / unit for value, unit in zip(received, base)]))
        if points:
            line(axes, name, points)
    axes.plot([0, 1, max(LOADS)], [0, 1, 1], color="#555555", linestyle=(0, (4, 3)), linewidth=1,
              label="ideal")
    axes.set_xlim(0.4, None)
    axes.set_ylim(0, None)
    axes.set_xlabel("offered, as a part of what was received at saturation")
    axes.set_ylabel("received, likewise")
    return finished(figure, "Overload: what still gets through, 64-byte frames")


def latency(rows):
    panels = []
    for case, _ in rows.cases("latency", "p50 us"):
        panels.append((Case.of("latency", **case).label(), case))
    if not panels:
        return None
    columns = min(4, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure, all_axes = pyplot.subplots(
        lines, columns, figsize=(1 + 3.8 * columns, 1.4 + 3.4 * lines), squeeze=False,
        sharex=True, sharey=True)
    flat = list(all_axes.flat)
    for axes, (title, case) in zip(flat, panels):
        for name in rows.forwarders:
            points = []
            for at, quantity in enumerate(PERCENTILES.values()):
                values = rows.values("latency", quantity, **case).get(name)
                if values:
                    points.append((at, values))
            if points:
                line(axes, name, points)
        axes.set_title(title)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xticks(range(len(PERCENTILES)), PERCENTILES)
        axes.tick_params(labelbottom=True)
    for axes in flat[len(panels):]:
        axes.set_visible(False)
    for first, *_ in all_axes:
        first.set_ylabel("microseconds")
    return finished(figure, "Latency by percentile")


def tcp(rows):
    groups = [(f"{case['streams']} stream{'s' if case['streams'] > 1 else ''}"
               f"\n{case['way']}{', offloads off' if case['offloads'] == 'off' else ''}", values)
              for case, values in rows.cases("tcp", "Gbit/s")]
    if not groups:
        return None
    figure, axes = pyplot.subplots(figsize=(2 + 2.3 * len(groups), 5))
    bars(axes, groups, "Gbit/s")
    return finished(figure, "TCP bulk, super-frames where they can pass")


def connections(rows):
    rates = [("alone", rows.values("connections", "connections/s"))]
    rates += [("no flood" if not case["syns"]
               else f"{figures.flows_text(case['syns'])} spoofed\nSYNs/s beside", values)
              for case, values in rows.cases("flood", "connections/s")]
    sizes = [(f"{figures.flows_text(case['flows'])} connections", values)
             for case, values in rows.cases("concurrent", "bytes/flow")]
    panels = [(title, groups, unit) for title, groups, unit in (
        ("begun and ended", rates, "connections a second"),
        ("memory", sizes, "bytes a connection")) if any(values for _, values in groups)]
    if not panels:
        return None
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(1 + 6 * len(panels), 5),
                                       squeeze=False)
    for axes, (title, groups, unit) in zip(all_axes[0], panels):
        axes.set_title(title)
        bars(axes, groups, unit)
    return finished(figure, "TCP connections")


def ftp(rows):
    panels = [(case["what"], values, quantity)
              for quantity in ("sessions/s", "files/s", "Gbit/s")
              for case, values in rows.cases("ftp", quantity)]
    if not panels:
        return None
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(1 + 4 * len(panels), 4.8),
                                       squeeze=False)
    for axes, (title, values, unit) in zip(all_axes[0], panels):
        axes.set_title(title, fontsize=9.5)
        bars(axes, [("", values)], unit)
    return finished(figure, "FTP through vsftpd")


PICTURES = {
    "throughput": throughput, "flows": by_flows, "overload": overload, "latency": latency,
    "tcp": tcp, "connections": connections, "ftp": ftp,
}

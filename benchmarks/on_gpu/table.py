"""The targets beside what was measured, as Markdown, and a picture of all contenders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from on_gpu import shapes
from on_gpu.clock import median
from on_gpu.counters import PEAKS, SHARE_OF_TIME
from on_gpu.results import Results
from on_gpu.shapes import TARGETS, Target
from pyfirstorder.bench.suite import Entry, Outcome

NOT_MEASURED = "–"
LEAST_SHARE = 2.0  # percent of a shape's time: kernels that take less are left out
DRY = "Dry run: tiny shapes on stand-ins.  No figure here says anything about a GPU.\n\n"
_ENTRY = ("contender", "ours", "settings", "seconds", "gain", "excess", "missing")


def run(results: Results, *, dry_run: bool, seconds: float) -> None:
    """From the files of the stages before."""
    folder = results.path.parent
    measured = Results(folder / "shapes.json", resumed=True).get("shapes", {})
    ceiling = Results(folder / "ceilings.json", resumed=True).get("fp16", {}).get("flops_per_second")
    results["rows"] = rows = [filled(target, measured, ceiling) for target in TARGETS]
    products = Results(folder / "products.json", resumed=True)
    loops = Results(folder / "loops.json", resumed=True)
    counted = Results(folder / "counters.json", resumed=True).get("shapes", {})
    text = (DRY if dry_run else "") + markdown(rows, measured)
    text += of_products(products, ceiling) + of_loops(loops) + of_counters(counted)
    results["text"] = text
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    try:
        results["picture"] = _picture(measured, folder / "shapes.png", dry_run)
    except ImportError as error:
        results["picture"] = f"missing: {error}"


def filled(target: Target, measured: dict[str, Any], ceiling: float | None) -> dict[str, Any]:
    """The target with what was measured: each goal with its figure, and whether it is met, or why there is none."""
    shape = measured.get(target.shape, {"entries": []})
    entries = {entry["contender"]: entry for entry in shape["entries"]}
    own = entries.get(target.ours, {"missing": "not run"})
    goals = []
    for rival, least in target.times.items():
        theirs = entries.get(rival, {"missing": "not run"})
        why = next((entry["missing"] for entry in (own, theirs) if entry["missing"]), "")
        ratio = None if why else median(theirs["seconds"]) / median(own["seconds"])
        goals.append(_goal(f"times as fast as {rival}", ratio, least, why))
    if target.share is not None:
        why = own["missing"] or ("" if ceiling else "the ceiling was not measured")
        share = None if why or not ceiling else shape["flops_of_a_step"] / (own["microseconds_a_step"] * 1e-6) / ceiling
        goals.append(_goal("share of fp16 products", share, target.share, why))
    if target.microseconds is not None:
        goals.append(
            _goal("microseconds a step", own.get("microseconds_a_step"), target.microseconds, own["missing"], most=True)
        )
    return {"shape": target.shape, "ours": target.ours, "goals": goals}


def _goal(what: str, measured: float | None, wanted: float, why: str, *, most: bool = False) -> dict[str, Any]:
    met = None if measured is None else (measured <= wanted if most else measured >= wanted)
    return {"what": what, "measured": measured, "wanted": wanted, "at_most": most, "met": met, "why_not_measured": why}


def markdown(rows: Sequence[dict[str, Any]], measured: dict[str, Any]) -> str:
    """Two tables: goals, and microseconds a step of every contender."""
    lines = ["| shape | ours | goal | measured | target | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        for goal in row["goals"]:
            sign, met = "≤" if goal["at_most"] else "≥", {True: "yes", False: "no", None: goal["why_not_measured"]}
            figure = NOT_MEASURED if goal["measured"] is None else f"{goal['measured']:.3g}"
            cells = (row["shape"], row["ours"], goal["what"], figure, f"{sign} {goal['wanted']:g}", met[goal["met"]])
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| shape | contender | µs a step | loss gained | remark |", "|---|---|---|---|---|"]
    for name, shape in measured.items():
        for entry in shape["entries"]:
            taken = f"{entry['microseconds_a_step']:.4g}" if entry["seconds"] else NOT_MEASURED
            gain = NOT_MEASURED if entry["gain"] is None else f"{entry['gain']:.2%}"
            lines.append(f"| {name} | {entry['contender']} | {taken} | {gain} | {entry['missing']} |")
    return "\n".join(lines)


def of_products(products: Mapping[str, Any], ceiling: float | None) -> str:
    """A table of the kinds of products, if they were measured."""
    kinds = {name: each for name, each in products.items() if isinstance(each, dict)}
    if not kinds:
        return ""
    lines = ["", "", f"Products: {products['words']}.", ""]
    lines += ["| shape, mode, products | µs a step | share of fp16 products | bits of the first |", "|---|---|---|---|"]
    for name, each in kinds.items():
        share = f"{each['flops_per_second'] / ceiling:.1%}" if ceiling else NOT_MEASURED
        same = "yes" if each["same_bits"] else "no"
        lines.append(f"| {name} | {each['microseconds_a_step']:.4g} | {share} | {same} |")
    return "\n".join(lines)


def of_loops(loops: Mapping[str, Any]) -> str:
    """A table of the engine's loops, if they were measured."""
    cases = {name: each for name, each in loops.items() if isinstance(each, dict)}
    if not cases:
        return ""
    kinds = list(next(iter(cases.values()))["microseconds_a_step"])
    lines = ["", "", f"| attack: µs a step | {' | '.join(kinds)} | planned | which is the fastest | same bits |"]
    lines += ["|---" * (len(kinds) + 4) + "|"]
    for name, each in cases.items():
        taken, same = each["microseconds_a_step"], "yes" if each["same_bits"] else "no"
        fastest = "yes" if min(taken, key=taken.__getitem__) == each["planned"] else "no"
        cells = (name, *(f"{taken[kind]:.4g}" for kind in kinds), each["planned"], fastest, same)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def of_counters(counted: Mapping[str, Any]) -> str:
    """A table of the kernels that take most of a step's time, beside what they reach of the device's peaks."""
    if not counted:
        return ""
    columns = (SHARE_OF_TIME, *PEAKS)
    lines = ["", "", f"| shape | kernel | {' | '.join(f'% {name}' for name in columns)} |"]
    lines += ["|---" * (len(columns) + 2) + "|"]
    for shape, kernels in counted.items():
        for kernel, shares in kernels.items():
            if shares[SHARE_OF_TIME] >= LEAST_SHARE:
                lines.append(f"| {shape} | {kernel} | " + " | ".join(f"{shares[name]:.3g}" for name in columns) + " |")
    return "\n".join(lines)


def _picture(measured: dict[str, Any], path: Any, dry_run: bool) -> str:
    """Bars of the package's own suite: ratios are to the first of ours that ran."""
    from pyfirstorder.bench.pictures import bars

    outcomes = []
    for name, shape in measured.items():
        entries = [Entry(**{part: entry[part] for part in _ENTRY}) for entry in shape["entries"] if entry["seconds"]]
        entries.sort(key=lambda entry: not entry.ours)
        if entries:
            workload = shapes.workload(name, dry_run=dry_run)
            outcomes.append(Outcome(workload, shape["flops_of_a_step"] * shape["steps"], 0, [], entries))
    figure = bars(outcomes)
    if figure is None:
        return "missing: nothing was measured"
    figure.savefig(path, dpi=120)
    return path.name

"""Scores all networks on the test split, which nothing before has seen.

    python -m stages.evaluate          (or: dvc repro evaluate)

Reads models/, data/prepared and the reports of the stages before. On the validation split it chooses each network's
temperature and review threshold (reports/evaluate/decision.json, which export serves). All test scores are those after
the temperature, as served, with 95 % intervals. Writes reports/evaluate: metrics.json, a text report, and for each
network predictions, curves and diagrams; data/shown/evaluate, its errors as images; and MODEL_CARD.md. About a minute
for 1,000 images.

When prepare.test_source was given, its images are scored three times, side by side: those that are new in picture and
patient; `without_copies`, together with other pictures of training patients; and `as_published`, with copies of
training pictures as well, which is what others report on that test set. What the latter gain may be memory.

evaluate.external lists folders and CSV files of other sources, in the layouts of dataset/README.md: a folder `tumour`
is of tumours of unknown type. They, prepare.hold_out_source, what the test split holds of each origin, and tumours of
unknown type that `prepare` has set aside are scored under `sources`, and in reports/evaluate/sources.csv. Nothing is
chosen on them.

evaluate.networks names the networks that are scored, and served by export after that; all for [].

evaluate.boxes, a CSV file of boxes around tumours (dataset/README.md), lets it count how often heatmaps point at them.
"""

from pathlib import Path

from core import contract, files
from stages.common import command
from stages.common.params import Params
from stages.data import boxes, dataset, layouts
from stages.networks.registry import NETWORKS, Network, chosen
from stages.reporting import card, diagrams, tables
from stages.scoring import answers, calibration, external, pointing, reports, sources
from stages.scoring.answers import Answers
from stages.scoring.params import Evaluate

SHOWN = Path("data/shown/evaluate")
"""Diagrams that show images: these must not enter Git."""
CARD = Path("MODEL_CARD.md")


def answered(networks: list[Network], params: Params, splits: answers.Splits,
             places: dict[str, Path]) -> tuple[dict[str, dict[str, Answers]], dict[str, dict]]:
    """Return what each network and their mean answer to the splits and to other sources, and the facts of the latter.

    Args:
        networks: one or more. params: of the run. splits: see answers.read_splits. places: see layouts.places.
    """
    loaded = {network.name: network.load() for network in networks}
    given = {name: answers.answered(network, splits, params.evaluate) for name, network in loaded.items()}
    facts = {}
    for source in external.sources(places, params.prepare.image_size, params.prepare.duplicate_similarity):
        facts[source.name] = source.facts
        for name, network in loaded.items():
            split = {f"{sources.EXTERNAL}{source.name}": (source.rows, source.images)}
            given[name] |= answers.answered(network, split, params.evaluate)
    mean = {contract.ENSEMBLE: answers.ensemble(list(given.values()))} if len(networks) > 1 else {}
    return given | mean, facts


def write_network(name: str, facts: dict, images: dataset.Images, given: dict[str, Answers],
                  params: Evaluate) -> tuple[dict, dict, str]:
    """Choose temperature and threshold of a network, score it, and write its tables and diagrams.

    Args:
        name: the network's, or contract.ENSEMBLE.
        facts: of the test, see tables.report.
        images: the test split's.
        given: its answers, see answers.decided.
        params: this stage's.

    Returns:
        its decision, its scores, and its part of the text report.
    """
    decision, result = answers.decided(given, params)
    if found := sources.by_source(given, decision, params):
        result["sources"] = found
    test = given[answers.SCORED_ON]
    probabilities = calibration.with_temperature(test.raw, decision["temperature"])
    source, folder = facts["data_source"], reports.REPORTS / name
    title = f"{name} on {len(test.labels)} test images ({source})"
    tables.write(folder, test, probabilities)
    diagrams.write(folder, title, test, probabilities, result)
    diagrams.failures(images, probabilities, title, SHOWN / name / "failures.png")
    if name in NETWORKS:
        history = reports.table(Path("reports") / NETWORKS[name].stage / "history.csv")
        diagrams.learning_curves(history, f"{name}, training ({source})", folder / "learning_curves.png")
    return decision, result, tables.report(name, facts, decision, result)


def main(params: Params) -> None:
    """Predict with each network, choose, score, and write reports/evaluate and the model card."""
    networks = chosen(params.evaluate.networks, "evaluate.networks")
    places = layouts.places(params.evaluate.external, "evaluate.external")
    data, splits = dataset.read_report(), answers.read_splits(params.prepare.image_size)
    rows, images = splits[answers.SCORED_ON]
    table = params.evaluate.boxes
    around = boxes.of_rows(rows, Path(table), "evaluate.boxes") if table else None
    given, outside = answered(networks, params, splits, places)
    result = {"data_source": data["source"], **answers.counts(rows), "resamples": params.evaluate.bootstrap,
              "prevalence": params.evaluate.prevalence}
    decisions, texts = {}, []
    for name, own in given.items():
        decisions[name], result[name], text = write_network(name, result, images, own, params.evaluate)
        texts.append(text)
        for source, known in outside.items():
            result[name]["sources"][source] |= known
        print(tables.summary(name, result, decisions[name], result[name]))
    if data["source"] == contract.PHANTOM:
        for network in networks:
            result[network.name]["pointing_game"] = pointing.game(network.load(), params.prepare.image_size,
                                                                  params.evaluate.average_flip)
    elif around is not None:
        for network in networks:
            result[network.name]["pointing_game"] = pointing.game_on_boxes(
                network.load(), given[network.name][answers.SCORED_ON], images, around, params.evaluate)
    files.write_json(reports.SCORES, result)
    files.write_json(reports.DECISIONS, decisions)
    files.write_text(reports.REPORTS / "sources.csv", tables.sources_csv({name: result[name] for name in given}))
    files.write_text(reports.REPORTS / "report.txt", "\n\n".join(texts))
    runs = {network.name: reports.training(network.stage) for network in networks}
    files.write_text(CARD, card.card(data, runs, files.rounded(result), files.rounded(decisions)))
    print(f"Written: {reports.REPORTS}/, {SHOWN}/ and {CARD}.")


if __name__ == "__main__":
    command.run(main, __doc__, ["prepare.image_size", "prepare.duplicate_similarity", "evaluate"])

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
"""

from pathlib import Path

from core import contract, files
from stages.common import command
from stages.common.params import Params
from stages.data import dataset
from stages.networks.registry import NETWORKS
from stages.reporting import card, diagrams, tables
from stages.scoring import answers, calibration, pointing, reports
from stages.scoring.answers import Answers
from stages.scoring.params import Evaluate

SHOWN = Path("data/shown/evaluate")
"""Diagrams that show images: these must not enter Git."""
CARD = Path("MODEL_CARD.md")


def write_network(name: str, source: str, images: dataset.Images, given: dict[str, Answers],
                  params: Evaluate) -> tuple[dict, dict, str]:
    """Choose temperature and threshold of a network, score it, and write its tables and diagrams.

    Args:
        name: the network's, or contract.ENSEMBLE.
        source: what the data are called.
        images: the test split's.
        given: its answers, see answers.decided.
        params: this stage's.

    Returns:
        its decision, its scores, and its part of the text report.
    """
    decision, result = answers.decided(given, params)
    test = given[answers.SCORED_ON]
    probabilities = calibration.with_temperature(test.raw, decision["temperature"])
    title, folder = f"{name} on {len(test.labels)} test images ({source})", reports.REPORTS / name
    tables.write(folder, test, probabilities)
    diagrams.write(folder, title, test, probabilities, result)
    diagrams.failures(images, probabilities, title, SHOWN / name / "failures.png")
    if name in NETWORKS:
        history = reports.table(Path("reports") / NETWORKS[name].stage / "history.csv")
        diagrams.learning_curves(history, f"{name}, training ({source})", folder / "learning_curves.png")
    return decision, result, tables.report(name, source, decision, result, params.prevalence)


def main(params: Params) -> None:
    """Predict with each network, choose, score, and write reports/evaluate and the model card."""
    data, splits = dataset.read_report(), answers.read_splits(params.prepare.image_size)
    rows, images = splits[answers.SCORED_ON]
    networks = {name: network.load() for name, network in NETWORKS.items()}
    given = {name: answers.answered(network, splits, params.evaluate) for name, network in networks.items()}
    given[contract.ENSEMBLE] = answers.ensemble(list(given.values()))
    result = {"data_source": data["source"], **answers.counts(rows), "resamples": params.evaluate.bootstrap,
              "prevalence": params.evaluate.prevalence}
    decisions, texts = {}, []
    for name, own in given.items():
        decisions[name], result[name], text = write_network(name, data["source"], images, own, params.evaluate)
        texts.append(text)
        print(tables.summary(name, decisions[name], result[name], params.evaluate.prevalence))
    if data["source"] == contract.PHANTOM:
        for name, network in networks.items():
            result[name]["pointing_game"] = pointing.game(network, params.prepare.image_size,
                                                          params.evaluate.average_flip)
    files.write_json(reports.SCORES, result)
    files.write_json(reports.DECISIONS, decisions)
    files.write_text(reports.REPORTS / "report.txt", "\n\n".join(texts))
    runs = {name: reports.training(network.stage) for name, network in NETWORKS.items()}
    files.write_text(CARD, card.card(data, runs, files.rounded(result), files.rounded(decisions)))
    print(f"Written: {reports.REPORTS}/, {SHOWN}/ and {CARD}.")


if __name__ == "__main__":
    command.run(main, __doc__, ["prepare.image_size", "evaluate"])

"""Fits what tells whether a text answers a question, from the states of prompts.

    egress answer --input questions.jsonl --output answers.jsonl
    egress export-states --layers 20 --data answers.jsonl --output STATES
    python fit_answerability.py --questions questions.jsonl --answers answers.jsonl --states STATES --layer 20 \\
        --weigh sq2=3 --threshold 0.27 --out answerability.json

Questions have `answerable`, true where it is left out. A logistic regression of the state of a prompt's last token,
divided by its root mean square; `export_reader.py --answerability` puts it into the model's file.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def states(folder, layer):
    """(texts, hidden size): the states of the last tokens of prompts, in the order of the texts."""
    found = []
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "np") as file:
            rows = file.get_tensor("outputs").astype(int) - 1
            found.append(file.get_tensor(f"layer.{layer}")[rows].astype(np.float32))
    return np.concatenate(found)


def labels(questions, answers):
    known = {line["id"]: line.get("answerable", True) for line in lines(questions)}
    ids = [line["id"] for line in lines(answers)]
    return ids, np.array([known[identifier] for identifier in ids])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", required=True)
    parser.add_argument("--answers", required=True)
    parser.add_argument("--states", required=True)
    parser.add_argument("--held-out", nargs=3, metavar=("QUESTIONS", "ANSWERS", "STATES"))
    parser.add_argument("--layer", type=int, default=20)
    parser.add_argument("--weigh", nargs="*", default=[], help="prefix of ids = how often such a question counts")
    parser.add_argument("--regularization", type=float, default=0.003, help="C; smaller is stronger")
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    ids, answerable = labels(arguments.questions, arguments.answers)
    inputs = states(arguments.states, arguments.layer)
    assert len(ids) == len(inputs), f"{len(ids)} answers, states of {len(inputs)}"
    weights = np.ones(len(ids))
    for rule in arguments.weigh:
        prefix, _, weight = rule.partition("=")
        weights[[identifier.startswith(prefix) for identifier in ids]] = float(weight)
    mean, deviation = inputs.mean(0), inputs.std(0)
    model = LogisticRegression(C=arguments.regularization, max_iter=500)
    model.fit((inputs - mean) / deviation, answerable, sample_weight=weights)
    slope = model.coef_[0] / deviation
    bias = float(model.intercept_[0] - slope @ mean)
    print(f"{len(ids)} questions, {np.mean(answerable):.3f} of them with an answer")
    if arguments.held_out:
        ids, answerable = labels(*arguments.held_out[:2])
        scores = states(arguments.held_out[2], arguments.layer) @ slope + bias
        refused = 1 / (1 + np.exp(-scores)) < arguments.threshold
        for kind in dict.fromkeys(identifier.split("|")[0] for identifier in ids):
            own = np.array([identifier.startswith(kind) for identifier in ids])
            text = f"{kind}: refused {refused[own & answerable].mean():.3f} of those with an answer"
            if not answerable[own].all():
                text += f", {refused[own & ~answerable].mean():.3f} of the others"
                text += f"; area under the curve {roc_auc_score(answerable[own], scores[own]):.3f}"
            print(text)
    Path(arguments.out).write_text(
        json.dumps(
            {
                "layer": arguments.layer,
                "threshold": arguments.threshold,
                "bias": bias,
                "weights": [float(np.float32(weight)) for weight in slope],
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main()

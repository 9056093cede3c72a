"""Keeps a trained model in the repository, so that it can be tried before anything is trained."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reprise.commands.find_model import Trained, check_data, find
from reprise.commands.project import UsageError
from reprise.core.config.project import Project
from reprise.core.contract import Failed, Run
from reprise.core.run.integrity import sealed, sha256
from reprise.inference.kept import EXAMPLES, FOLDER, LARGEST, NETWORK, WEIGHTS, pixels, session
from reprise.inference.kinds import Classifier, Models, Sampler
from reprise.inference.lookup import kind_of, models_of

NETWORKS = (Classifier, Sampler, Models)
"""Kinds whose network is kept. For players and readers of text, the weights are kept."""
CHECKED, SHOWN, NOISE = 1000, 50, 256
"""Number of test images for comparing both precisions; of those that are kept; of rows of noise."""
SAME = 0.99
"""Share of the checked images for which the kept model must give the answer of the trained one."""
CLOSE = 0.01
"""Largest difference of other models' outputs, relative to the largest output for an input."""


def keep(project: Project, experiment: str, arm: str | None, seed: int | None) -> tuple[Path, dict[str, Any]]:
    """Write kept/<experiment>.zip and .json; return the archive and the content of the card.

    Full precision is used if half precision would change what the model does. Raises UsageError if there is nothing to
    keep, and Failed if it is too large.
    """
    kind = kind_of(experiment)
    if kind not in NETWORKS:
        return _keep_weights(project, experiment, arm, seed)
    lacking = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if lacking:
        raise UsageError(f"{', '.join(lacking)}: not installed; `pip install 'reprise-papers[export]'` installs it")

    def fit(run: Any) -> bool:
        from reprise.inference.models import read_config

        return kind is Models or models_of(experiment).can_be_tried(read_config(run))

    trained = find(project, experiment, arm, seed, fit=fit, what="does not look at images")
    run = trained.run
    if kind.needs_data:
        check_data(project, run)
    import numpy as np
    import onnx
    import torch

    from reprise.inference import files, half
    from reprise.inference.models import load, read_config

    torch.manual_seed(0)
    models, config = models_of(experiment), read_config(run)
    task = load(run, with_data=models.needs_data)
    networks = models.of(task, config)
    if not networks:
        raise UsageError(f"no network of arm {run.arm} runs by itself; --arm picks another")
    network = networks[0]
    with TemporaryDirectory() as folder:
        path, _ = files.write(network, Path(folder), "onnx")
        whole = onnx.load(path)
    given, labels, facts = _examples(models, task, config, network)
    with torch.no_grad():
        expected = (network.live or network.module)(torch.from_numpy(given)).numpy()
    for precision, stored in (("half", half.halve(whole)), ("full", whole)):
        content = stored.SerializeToString()
        outputs = session(content).run(None, {next(iter(network.inputs)): given})[0]
        facts |= {"precision": precision, "checked": _compared(outputs, expected, labels, facts)}
        if _same(facts["checked"]):
            break
    else:
        raise Failed(f"{run.name} gives different outputs in ONNX Runtime than in PyTorch: {facts['checked']}")
    examples = {"inputs": _stored(models, given)[: SHOWN if labels is not None else NOISE]}
    if labels is not None:
        examples["labels"] = labels[:SHOWN]
    packed = io.BytesIO()
    np.savez_compressed(packed, **examples)
    facts = {"says": network.says, "output": network.output, **facts}
    if network.examples:
        facts["examples"] = list(network.examples)
    return _write(project, trained, facts, {NETWORK: content, EXAMPLES: packed.getvalue()})


def _keep_weights(project: Project, experiment: str, arm: str | None, seed: int | None) -> tuple[Path, dict[str, Any]]:
    """Keep the weights of the paper's first stage in half precision, or in 8 bits if that takes too much."""
    trained = find(project, experiment, arm, seed, project.pipeline.stages(experiment)[0])
    from safetensors import numpy as safetensors

    from reprise.inference.small_weights import halved, in_bytes, restored

    run = trained.run
    whole, expected = safetensors.load_file(run.model), _outputs(run)
    forms = {"half": halved(whole), "8-bit": in_bytes(whole)}
    for precision, form in forms.items():
        content = safetensors.save(form)
        with TemporaryDirectory() as folder:
            safetensors.save_file(restored(form), stored := Path(folder) / WEIGHTS)
            checked = _compared(_outputs(replace(run, model=stored)), expected, None, {})
        if not _same(checked):
            raise Failed(f"{run.name} gives different outputs in {precision} precision: {checked}")
        if len(zlib.compress(content, 9)) <= LARGEST:
            break
    return _write(
        project, trained, {"config": run.config, "precision": precision, "checked": checked}, {WEIGHTS: content}
    )


def _outputs(run: Run) -> Any:
    """Return the outputs of a run's first network for its own example inputs."""
    import torch

    from reprise.inference.models import load, read_config

    torch.manual_seed(0)
    network = models_of(run.experiment).of(load(run, with_data=False), read_config(run))[0]
    with torch.no_grad():
        return (network.live or network.module)(*network.inputs.values()).numpy()


def _write(
    project: Project, trained: Trained, facts: dict[str, Any], parts: dict[str, bytes]
) -> tuple[Path, dict[str, Any]]:
    """Write the archive and its card. Raises Failed if the archive is too large."""
    run, target = trained.run, project.root / FOLDER
    target.mkdir(exist_ok=True)
    archive = target / f"{run.experiment}.zip"
    _write_zip(archive, parts)
    if (size := archive.stat().st_size) > LARGEST:
        archive.unlink()
        raise Failed(
            f"{run.name} takes {size:,} bytes in {facts['precision']} precision, and at most {LARGEST:,} are kept"
        )
    card = {
        "name": run.name, "scale": run.scale, "fingerprint": run.fingerprint,
        "chosen": trained.chosen.partition(";")[0], "kind": kind_of(run.experiment).__name__,
        **facts, "archive": sha256(archive),
    }  # fmt: skip
    (target / f"{run.experiment}.json").write_text(json.dumps(sealed(card), indent=1, ensure_ascii=False) + "\n")
    return archive, card


def _examples(models: Models, task: Any, config: Any, network: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Return inputs of the network, labels if they have any, and facts about them."""
    import numpy as np

    if isinstance(models, Sampler):
        return models.noise(task, NOISE).numpy(), None, {}
    if not isinstance(models, Classifier) or models.output(config) is None:
        return next(iter(network.inputs.values())).numpy(), None, {}
    from reprise.inference import images as looking

    reader = looking.reader(models, task, config)
    images, labels = looking.test_images(task, reader.dataset)
    named = [str(label) if reader.dataset == "digits" else reader.classes[label] for label in labels]
    known = [place for place, name in enumerate(named) if name in reader.classes]
    places = np.random.default_rng(0).permutation(known)[:CHECKED]
    facts = {"dataset": reader.dataset, "reads": reader.kind, "classes": reader.classes, "probable": reader.probable}
    return pixels(images[places]), np.array(named)[places], facts


def _stored(models: Models, given: Any) -> Any:
    """Convert images to bytes and noise to half precision; other inputs are unchanged."""
    import numpy as np

    if isinstance(models, Sampler):
        return given.astype(np.float16)
    if isinstance(models, Classifier) and given.ndim > 2:
        images = (given * 255).round().astype(np.uint8)
        return np.moveaxis(images, 1, -1) if images.ndim == 4 else images
    return given


def _compared(found: Any, expected: Any, labels: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Compare the kept model with the trained one."""
    import numpy as np

    if facts.get("reads") == "classifier":
        answers, before = found.argmax(1), expected.argmax(1)
        right = np.array(facts["classes"])[answers] == labels
        return {"images": len(answers), "right": int(right.sum()), "same": int((answers == before).sum())}
    rows = expected.reshape(len(expected), -1)
    differences = np.abs(found.reshape(rows.shape) - rows).max(1)
    largest = np.abs(rows).max(1) if rows.shape[1] > 1 else np.abs(rows).max()
    return {"inputs": len(rows), "largest_difference": float((differences / largest).max())}


def _same(checked: dict[str, Any]) -> bool:
    """Whether users will see no difference between the models."""
    if "same" in checked:
        return checked["same"] >= SAME * checked["images"]
    return checked["largest_difference"] <= CLOSE


def _write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write a zip file whose bytes depend only on `files`, not on the time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED, 9)

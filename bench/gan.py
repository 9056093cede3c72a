"""A GAN on MNIST: images a second to the same Fréchet distance."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Case, Result

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[1]
UPDATES, WARM_UP, BATCH, SAMPLES = 800, 100, 100, 5000
LATENT, GENERATOR, DISCRIMINATOR, PIECES = 64, (256, 256), 120, 3
INPUT_DROPOUT, HIDDEN_DROPOUT = 0.2, 0.5
LR, BETAS = 2e-3, (0.5, 0.999)


def ours(pair: int) -> Result:
    """The arm `non_saturating` at laptop scale, but for its length: the rate is that of the rows after the first."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    from reprise.core.config.project import load
    from reprise.core.run import execution, run_store
    from reprise.core.run.tracking import open_tracker
    from reprise.experiments.gan.config import Config, Latent
    from reprise.experiments.gan.networks import networks
    from reprise.experiments.gan.task import noise
    from reprise.stages.run_list import runs_of

    project = load(ROOT, [f"params/gan.yaml:laptop.duration={UPDATES}step", 'tracking.wandb="off"'])
    run = [each for each in runs_of(project, "gan", "pretrain") if each.arm == "non_saturating"][pair % 5]
    rows: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        execution.execute(
            run,
            project.params.runtime.model_dump(mode="json"),
            root,
            lambda: open_tracker(run, project.params.tracking, root, run.fingerprint, ""),
            lambda step, total, row: rows.append((step, time.perf_counter())),
        )
        weights = load_file(run_store.work_folder(root, run) / "done" / "weights.safetensors")
    (first, started), (last, ended) = rows[0], rows[-1]
    nets = nn.ModuleDict(networks(Config.model_validate(run.config))).eval()
    nets.load_state_dict(weights)
    with torch.inference_mode():
        z = noise(Latent(dim=LATENT, distribution="uniform"), SAMPLES, None, torch.device("cpu"))
        samples = nets["generator"](z).sigmoid()
    return Result((last - first) * BATCH / (ended - started), quality(samples), {"parameters": parameters(nets)})


def lightning(pair: int) -> Result:
    """Lightning's GAN tutorial with our networks and rates: its loader, transforms, logging and default callbacks."""
    import numpy as np
    import pytorch_lightning as pl
    import torch
    from PIL import Image
    from pytorch_lightning.loggers import CSVLogger
    from torch import nn
    from torch.nn import functional
    from torch.utils.data import DataLoader, Dataset

    class ToTensor:
        """As torchvision's."""

        def __call__(self, picture: Image.Image) -> Tensor:
            array = np.array(picture, np.uint8, copy=True)
            tensor = torch.from_numpy(array).view(picture.size[1], picture.size[0], 1)
            return tensor.permute(2, 0, 1).contiguous().to(torch.float32).div(255)

    class Digits(Dataset):
        """As torchvision's MNIST: all in memory, a picture and its label at a time."""

        def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
            self.images, self.labels = torch.tensor(images), torch.tensor(labels)
            self.transform = ToTensor()

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for inputs, units in zip((LATENT, *GENERATOR), GENERATOR, strict=False):
                layers += [nn.Linear(inputs, units), nn.BatchNorm1d(units), nn.ReLU()]
            self.model = nn.Sequential(*layers, nn.Linear(GENERATOR[-1], 784), nn.Sigmoid())

        def forward(self, z: Tensor) -> Tensor:
            return self.model(z).view(len(z), 1, 28, 28)

    class Discriminator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input_dropout, self.hidden_dropout = nn.Dropout(INPUT_DROPOUT), nn.Dropout(HIDDEN_DROPOUT)
            self.pieces, self.out = nn.Linear(784, DISCRIMINATOR * PIECES), nn.Linear(DISCRIMINATOR, 1)

        def forward(self, images: Tensor) -> Tensor:
            pieces = self.pieces(self.input_dropout(images.flatten(1)))
            return self.out(self.hidden_dropout(pieces.unflatten(1, (PIECES, DISCRIMINATOR)).amax(1)))

    class GAN(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.generator, self.discriminator = Generator(), Discriminator()

        def noise(self, like: Tensor) -> Tensor:
            return (torch.rand(len(like), LATENT).type_as(like) * 2 - 1) * 3**0.5

        def training_step(self, batch: tuple[Tensor, Tensor]) -> None:
            images, _ = batch
            optimizer_g, optimizer_d = self.optimizers()
            real, fake = torch.ones(len(images), 1).type_as(images), torch.zeros(len(images), 1).type_as(images)

            self.toggle_optimizer(optimizer_d)
            samples = self.generator(self.noise(images)).detach()
            on_real = functional.binary_cross_entropy_with_logits(self.discriminator(images), real)
            on_fake = functional.binary_cross_entropy_with_logits(self.discriminator(samples), fake)
            loss = on_real + on_fake
            self.log("d_loss", loss, prog_bar=True)
            self.manual_backward(loss)
            optimizer_d.step()
            optimizer_d.zero_grad()
            self.untoggle_optimizer(optimizer_d)

            self.toggle_optimizer(optimizer_g)
            logits = self.discriminator(self.generator(self.noise(images)))
            loss = functional.binary_cross_entropy_with_logits(logits, real)
            self.log("g_loss", loss, prog_bar=True)
            self.manual_backward(loss)
            optimizer_g.step()
            optimizer_g.zero_grad()
            self.untoggle_optimizer(optimizer_g)
            for schedule in self.lr_schedulers():
                schedule.step()

        def configure_optimizers(self) -> Any:
            networks = self.generator, self.discriminator
            optimizers = [torch.optim.Adam(network.parameters(), lr=LR, betas=BETAS) for network in networks]
            schedules = [torch.optim.lr_scheduler.LinearLR(each, 1.0, 0.0, UPDATES) for each in optimizers]
            return optimizers, schedules

    class Clock(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: GAN, outputs: Any, batch: Any, index: int) -> None:
            self.updates = getattr(self, "updates", 0) + 1
            if self.updates == WARM_UP:
                self.started = time.perf_counter()
            if self.updates == UPDATES:
                self.ended = time.perf_counter()

    pl.seed_everything(pair, verbose=False)
    digits = ROOT / "data" / "prepared" / "mnist" / "digits"
    data = Digits(*(np.load(digits / f"train_{name}.npy")[:50_000] for name in ("images", "labels")))
    module, clock = GAN(), Clock()
    module.generator.model[-2].bias.data = (data.images.float().mean(0) / 255).clamp(1e-7, 1 - 1e-7).logit().flatten()
    with tempfile.TemporaryDirectory() as folder:
        loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
        epochs = -(-UPDATES // len(loader))
        trainer = pl.Trainer(
            max_epochs=epochs, max_steps=2 * UPDATES, accelerator="cpu",
            default_root_dir=folder, logger=CSVLogger(folder), callbacks=[clock],
        )  # fmt: skip
        trainer.fit(module, loader)
    module.eval()
    with torch.inference_mode():
        samples = module.generator(module.noise(torch.empty(SAMPLES))).flatten(1)
    rate = (UPDATES - WARM_UP) * BATCH / (clock.ended - clock.started)
    return Result(rate, quality(samples), {"parameters": parameters(module)})


def quality(samples: Tensor) -> dict[str, float]:
    """Fréchet distance to as many test images."""
    import numpy as np
    import torch

    from reprise.parts.metrics import frechet_distance, lenet_v1

    images = np.load(ROOT / "data" / "prepared" / "mnist" / "digits" / "test_images.npy")[:SAMPLES]
    net = lenet_v1()
    with torch.inference_mode():
        real = net.features(torch.from_numpy(images)[:, None] / 255)
        return {"fd_lenet_v1": frechet_distance(real, net.features(samples.unflatten(1, (1, 28, 28))))}


def parameters(module: Any) -> int:
    """How many numbers are trained."""
    return sum(each.numel() for each in module.parameters())


CASES = [
    Case(
        name="gan_mnist",
        what=(
            f"{UPDATES} updates of a GAN on MNIST: generator {LATENT}-256-256-784 with batch normalisation, maxout "
            f"discriminator 784-{DISCRIMINATOR}×{PIECES}-1, batch {BATCH}"
        ),
        unit="images/s",
        ours=ours,
        peers={"Lightning's GAN tutorial": lightning},
        goals={"Lightning's GAN tutorial": 3.0},
    )
]

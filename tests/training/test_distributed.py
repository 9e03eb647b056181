"""Two processes train as one would: same pictures, same loss, same gradient; one may die."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from minidalle.errors import MinidalleError
from minidalle.training import checkpoint, distributed

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
TRAIN = ["-m", "minidalle", "train"]


def torchrun(*command, **options):
    return subprocess.run(
        [*TORCHRUN, *command], capture_output=True, text=True, timeout=180, **options
    )


def on_two(tmp_path, body, imports="import torch\nfrom minidalle.training import distributed"):
    """Run `body`, which fills a dict `out`, on two ranks; what each put there."""
    script = tmp_path / "ranks.py"
    script.write_text(
        f"import json, sys\n{imports}\ndistributed.init(torch.device('cpu'))\nout = {{}}\n"
        f"{textwrap.dedent(body)}\n"
        "json.dump(out, open(sys.argv[1] + f'/{distributed.rank()}.json', 'w'))\n"
        "distributed.shutdown()\n"
    )
    done = torchrun(str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_alone_nothing_happens():
    """Catches a library that wants torchrun, and a share that is not all."""
    x = torch.randn(3, 2, requires_grad=True)
    kept = x.detach().clone()
    distributed.all_reduce_mean([x.detach()])
    distributed.barrier()
    assert (distributed.rank(), distributed.world_size(), distributed.all_reduce_max(15)) == (
        0,
        1,
        15,
    )
    assert list(distributed.local_rows(5)) == [0, 1, 2, 3, 4]
    assert distributed.all_gather(x) is x and torch.equal(x, kept)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(MinidalleError, match="a batch of 8 does not divide among 3 processes"):
        distributed.local_rows(8)


def test_messages_between_two(tmp_path):
    """Catches a sum in place of a mean, rows out of order, and a stop that only one hears of."""
    outs = on_two(
        tmp_path,
        """
        r = distributed.rank()
        a, b = torch.tensor([1.0 + r, 5.0]), torch.tensor([[2.0 * r]])
        distributed.all_reduce_mean([a, b])
        out.update(a=a.tolist(), b=b.tolist(), share=list(distributed.local_rows(6)))
        out.update(rows=distributed.all_gather(torch.full((2, 1), float(r))).flatten().tolist())
        out.update(stop=distributed.all_reduce_max(15 * r))
        """,
    )
    for out in outs:
        assert out["a"] == [1.5, 5.0] and out["b"] == [[1.0]]
        assert out["rows"] == [0.0, 0.0, 1.0, 1.0] and out["stop"] == 15
    assert [out["share"] for out in outs] == [[0, 1, 2], [3, 4, 5]]


def test_clip_on_two_has_the_loss_and_gradient_of_one(tmp_path):
    """Catches a batch that is only compared with itself, and gathered rows without gradient."""
    imports = """
import torch
from minidalle.training import distributed
from minidalle.clip import CLIP, CLIPConfig, contrastive_loss
config = CLIPConfig(vocab_size=20, text_length=6, image_size=12, patch=6, width=16, heads=2,
                    embedding=8, image_layers=1, text_layers=1)
def measured(rows):
    torch.manual_seed(0)
    clip = CLIP(config).double()
    images, text = torch.rand(8, 3, 12, 12).double(), torch.randint(0, 26, (8, 6))
    image = distributed.all_gather(clip.encode_image(images[rows]))
    text = distributed.all_gather(clip.encode_text(text[rows]))
    losses = contrastive_loss(image, text, clip.similarity_scale())
    losses.total.backward()
    return clip, losses
"""
    body = """
    rows = distributed.local_rows(8)
    clip, losses = measured(slice(rows.start, rows.stop))
    distributed.all_reduce_mean([p.grad for p in clip.parameters()])
    out.update(loss=losses.total.item())
    out.update(gradient={n: p.grad.flatten().tolist() for n, p in clip.named_parameters()})
    """
    outs = on_two(tmp_path, body, imports)
    space = {}
    exec(imports, space)
    clip, losses = space["measured"](slice(0, 8))
    for out in outs:
        assert out["loss"] == pytest.approx(losses.total.item(), rel=1e-5)
        for name, p in clip.named_parameters():
            got = torch.tensor(out["gradient"][name], dtype=torch.float64)
            assert torch.allclose(got, p.grad.flatten(), atol=1e-6, rtol=1e-4), name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All four stages at smoke by one process, and by two."""
    folder = tmp_path_factory.mktemp("runs")
    command = [*TRAIN, "all", "--preset", "smoke", "--device", "cpu", "--out"]
    one = subprocess.run(
        [sys.executable, *command, str(folder / "one")], capture_output=True, text=True, timeout=180
    )
    assert one.returncode == 0, one.stderr
    two = torchrun(*command, str(folder / "two"))
    assert two.returncode == 0, two.stderr
    return folder, two


UPDATE = """
import warnings
from pathlib import Path
import torch
from minidalle.training import distributed
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.world.storybook import Storybook
from minidalle.training.trainer import TrainState, fit

def updated(folder, stage):
    # The losses of one update, and the gradient that made it.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.cpu.get_capabilities = dict  # bfloat16 would round a share otherwise than a whole
    run = TrainingRun(preset("smoke"), Storybook(), Path(folder), torch.device("cpu"))
    model, config = run.build(stage)
    record = next(fit(TrainState.start(model, config), run.objective(stage, config)))
    return record.losses, {n: p.grad.flatten().tolist() for n, p in model.named_parameters()}
"""


@pytest.mark.parametrize("stage", ["prior", "clip"])
def test_two_train_what_one_trains(trained, stage, tmp_path):
    """Catches shares that overlap, gradients that are not averaged, words that weigh more beside
    short captions, and another number of pictures painted by the dVAE. Both are given one dVAE:
    its own training differs by its dice."""
    folder, _ = trained
    body = f"out['losses'], out['gradient'] = updated({str(folder / 'one')!r}, {stage!r})"
    outs = on_two(tmp_path, body, UPDATE)
    space = {}
    exec(UPDATE, space)
    losses, gradient = space["updated"](folder / "one", stage)
    for out in outs:
        assert out["losses"] == pytest.approx(losses, rel=1e-5)
        for name, whole in gradient.items():
            got, whole = torch.tensor(out["gradient"][name]), torch.tensor(whole)
            assert (got - whole).norm() <= 1e-4 * whole.norm() + 1e-7, name
    for name, ranks in (("one", 1), ("two", 2)):
        _, metadata = checkpoint.load(checkpoint.latest(folder / name / stage))
        assert metadata["world_size"] == ranks


def test_one_rank_speaks_and_writes(trained):
    """Catches two bars, two reports, and two writers of one bundle."""
    folder, two = trained
    assert two.stderr.count("tokenizer: ") == 1 and two.stdout.count("bundle: ") == 1
    assert (folder / "two" / "bundle" / "manifest.json").exists()


def test_going_on_with_another_number_says_that_it_is_not_bit_exact(trained):
    """Catches silence, and a refusal to load."""
    folder, _ = trained
    (last,) = (folder / "two" / "prior").glob("step-*")
    last.rename(last.with_name("step-00000003.safetensors"))  # else it is finished
    done = subprocess.run(
        [sys.executable, *TRAIN, "prior", "--preset", "smoke", "--device", "cpu", "--resume",
         "--out", str(folder / "two")], capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "was trained by 2 processes and now there are 1" in done.stderr


def test_a_signal_saves_and_a_death_ends_all(tmp_path):
    """SIGTERM to torchrun: both finish the step, one saves. --resume goes on from there. SIGKILL to
    one of the two: the other ends within a minute, nothing is left behind, the checkpoint loads."""
    training = ["dvae", "--preset", "smoke", "--steps", "100000", "--device", "cpu", "--resume"]
    command = [*TORCHRUN, *TRAIN, *training]
    log = tmp_path / "dvae.jsonl"

    def start():
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        before = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 120
        while not log.exists() or log.stat().st_size <= before:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        return process

    process = start()
    try:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert process.returncode != 0 and "stopped and saved" in told, told
        saved = checkpoint.latest(tmp_path / "dvae")
        step = checkpoint.load(saved)[1]["step"]
        assert step >= 20

        process = start()
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(pids) == 2
        os.kill(int(pids[1]), signal.SIGKILL)
        _, told = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "has gone" in told or "SIGKILL" in told or "Signal 9" in told, told
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        # The one that lives may have saved a later step, which is as sound.
        assert checkpoint.latest(tmp_path / "dvae").name >= saved.name
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

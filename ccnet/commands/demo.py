"""`ccnet demo`."""

from pathlib import Path


def demo(run: Path = Path("runs/demo"), seed: int = 0) -> int:
    """Run the whole path on embedded scenes, in a minute or two.

    Trains a small network without any download, evaluates it on scenes that it has not seen,
    predicts some of them, and draws where a pixel looks.

        ccnet demo
        ccnet demo --run runs/second --seed 1

    Args:
        run: New folder for everything that the demo makes.
        seed: Seed of the weights and of the order of the scenes.
    """
    from ccnet.demo import demo, report

    demo(run, seed)
    print(report(run))
    return 0

"""The commands: functions whose signatures and docstrings are their flags and their help.

What is slow to import, torch above all, is imported when a command runs, so that `--help` answers
at once. A command returns its exit status.
"""

from collections.abc import Callable

from ccnet.commands import (
    app,
    check_data,
    convert,
    demo,
    evaluate,
    explain,
    export,
    import_,
    predict,
    split,
    train,
)

COMMANDS: dict[str, Callable[..., int]] = {
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "explain": explain.explain,
    "check-data": check_data.check_data,
    "import": import_.import_,
    "split": split.split,
    "convert": convert.convert,
    "export": export.export,
    "app": app.app,
    "demo": demo.demo,
}

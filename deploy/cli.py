"""The command line: one verb a station.

A user's mistake ends in one line that names the field, the value and what is accepted, and in exit
status 2. Interrupting is safe; the same command again goes on.
"""

import contextlib
import errno
import io
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from openreel.deploy import (
    verbs,
    verbs_eval,
    verbs_eval_vae,
    verbs_expand,
    verbs_generate,
    verbs_text,
    verbs_train,
)
from openreel.pipeline.errors import InputError, MediaError, Stopped

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
"""faults of the disk that a person mends, not a programmer"""

HELP = {"-h", "--help"}

Train = (
    Annotated[verbs_train.TrainCaptioner, tyro.conf.subcommand("captioner")]
    | Annotated[verbs_train.TrainVae, tyro.conf.subcommand("vae")]
    | Annotated[verbs_train.TrainDit, tyro.conf.subcommand("dit")]
    | Annotated[verbs_train.TrainExpander, tyro.conf.subcommand("expander")]
)

Eval = (
    Annotated[verbs_eval.EvalCaptions, tyro.conf.subcommand("captions")]
    | Annotated[verbs_eval_vae.EvalVae, tyro.conf.subcommand("vae")]
)


def _verb(kind: type, name: str) -> Any:
    return Annotated[kind, tyro.conf.subcommand(name)]


Verbs = (
    _verb(verbs.Doctor, "doctor")
    | _verb(verbs.Demo, "demo")
    | _verb(verbs.Curate, "curate")
    | _verb(verbs_text.Recaption, "recaption")
    | _verb(verbs_text.Embed, "embed")
    | _verb(verbs.Encode, "encode")
    | _verb(verbs_train.Train, "train")
    | _verb(verbs_eval_vae.Eval, "eval")
    | _verb(verbs_expand.Expand, "expand")
    | _verb(verbs_generate.Generate, "generate")
    | _verb(verbs_generate.Decode, "decode")
    | _verb(verbs.Inspect, "inspect")
)


class Misspelt(ValueError):
    """Arguments that the command line does not understand."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The `openreel` command."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        run = parse(argv)
        run()
    except (InputError, MediaError, Misspelt) as error:
        _stop(str(error), 2)
    except (OSError, RuntimeError) as error:
        if (fault := _disk_fault(error)) is None:
            raise
        _stop(f"{fault.filename or 'disk'}: {fault.strerror}", 2)
    except FloatingPointError as error:
        _stop(str(error), 1)
    except KeyboardInterrupt:
        _stop("interrupted; the same command goes on from here", 130)
    except Stopped as stopped:
        _stop(f"stopped at {stopped}; the same command goes on from here", 130)


def _disk_fault(error: BaseException | None) -> OSError | None:
    """The disk's fault among an error and its causes."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK:
            return error
        error = error.__cause__
    return None


def _stop(message: str, status: int) -> None:
    print("openreel: " + " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(status)


def parse(argv: list[str]) -> verbs.Run:
    """What the arguments ask for, ready to run. Raises Misspelt or InputError."""
    if argv[:1] == ["train"]:
        command, rest = _tyro(Train, "openreel train", argv[1:], unknown=True)
        prog = f"openreel train {argv[1]} {command.recipe}"
        overridden = _tyro(type(command.defaults()), prog, rest, default=command.defaults())
        changed: verbs.Run = command.bind(overridden)
        return changed
    if argv[:1] == ["curate"]:
        if HELP & set(argv):
            _help_on_curation()
        command, rest = _tyro(verbs.Curate, "openreel curate", argv[1:], unknown=True)
        overridden = _tyro(
            type(command.defaults()), "openreel curate", rest, default=command.defaults()
        )
        bound: verbs.Run = command.bind(overridden)
        return bound
    if argv[:1] == ["eval"] and argv[1:]:
        judged: verbs.Run = _tyro(Eval, "openreel eval", argv[1:]).run
        return judged
    if not argv or argv[0] in ("-h", "--help"):
        argv = ["--help"]
    verb: verbs.Run = _tyro(Verbs, "openreel", argv, description=__doc__).run
    return verb


def _help_on_curation() -> None:
    """The verb's own options, then the fields that can be changed."""
    from openreel.pipeline.curate import CurateConfig

    with contextlib.suppress(SystemExit):
        _tyro(verbs.Curate, "openreel curate", ["--help"])
    _tyro(CurateConfig, "openreel curate INPUTS -o DATASET", ["--help"])


def _tyro(
    kind: Any,
    prog: str,
    argv: list[str],
    *,
    unknown: bool = False,
    default: Any = tyro.MISSING,
    description: str | None = None,
) -> Any:
    """tyro, with its framed complaint turned into one line."""
    command_line: Any = tyro.cli
    complaint = io.StringIO()
    options = {} if default is tyro.MISSING else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return command_line(
                kind,
                prog=prog,
                args=argv,
                description=description,
                return_unknown_args=unknown,
                config=(tyro.conf.OmitSubcommandPrefixes,),
                **options,
            )
    except SystemExit as stopped:
        if stopped.code in (0, None):
            raise
        raise Misspelt(one_line(complaint.getvalue())) from None


def one_line(panel: str) -> str:
    """tyro's panel of several paragraphs as one line; its title and pointers to --help go.

    The frame is drawn in box characters or, where the terminal has no UTF-8, in spaces and hyphens.
    """
    framed = [line for line in panel.splitlines() if not line.startswith(("╭", "╰"))]
    text = " ".join(line.strip("│ ") for line in framed)
    paragraphs = [" ".join(p.split()) for p in re.split(r"[─-]{8,}", text)]
    if "╭" not in panel:
        paragraphs = paragraphs[1:]
    return "; ".join(p for p in paragraphs if p and "helptext" not in p)

"""Exceptions come back with all that they had, and none of their code runs for it."""

import asyncio
import json
import subprocess
import threading
import traceback
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pytest

from durable._codec import codec_for, converter, dump_again, dump_error, load_error
from durable._codec.exact import identical
from durable._codec.exceptions import _DEEPEST, _LONGEST_TRACEBACK, describe
from durable.errors import RetryAfter, SerializationError, StepError, StepTimeoutError

RAN: list[str] = []


class Plain(Exception):
    pass


class Failed(Exception):
    """Takes other arguments than it passes on, and would do things when made."""

    def __init__(self, order: str, *, code: int) -> None:
        RAN.append("init")
        super().__init__(f"order {order} failed")
        self.order = order
        self.code = code


class Slotted(Exception):
    __slots__ = ("__hidden", "absent", "code")

    def __init__(self, code: Any) -> None:
        self.code = code
        self.__hidden = "h"


class Made(Exception):
    def __new__(cls, one: int, two: int) -> Self:
        RAN.append("new")
        return super().__new__(cls, one, two)


class FileBroken(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(5, "broken", path)
        self.path = path


@dataclass(frozen=True)
class Record(Exception):
    n: int


class Stubborn(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        RAN.append("set")
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@dataclass
class Job:
    name: str
    error: BaseException


class Many(ExceptionGroup):
    pass


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError


def again(error: BaseException) -> BaseException:
    RAN.clear()
    back = load_error(dump_error(error))
    assert RAN == []
    assert type(back) is type(error)
    return back


@pytest.mark.parametrize(
    "error",
    [
        ValueError(), ValueError("a", 1, (2,), {"k": {3}}), KeyError("k"), KeyError(("a", 1)),
        Plain("x"), Failed("7", code=3), Slotted(5), Slotted(None), Made(1, 2), Record(1),
        FileNotFoundError(2, "gone", "/a", None, "/b"), OSError("text"), OSError(2, "x"),
        FileBroken("/p"), BlockingIOError(11, "later", 5), ConnectionResetError(104, "reset"),
        caught(b"\xff".decode), caught(lambda: "ü".encode("ascii")),
        UnicodeTranslateError("ü", 0, 1, "why"),
        StopIteration(5), StopAsyncIteration(), SystemExit(3), SystemExit(), GeneratorExit(),
        ImportError("no", name="n", path="/p"), caught(lambda: __import__("no_such_module")),
        caught(lambda: compile("a b", "f.py", "exec")), caught(lambda: json.loads("[1,")),
        caught(lambda: 1 / 0), NameError("x", name="x"), asyncio.CancelledError("why"),
        KeyboardInterrupt(), RetryAfter(5, "soon"), StepTimeoutError("late"), StepError("a:B", "m", "t"),
        SerializationError("x"), ExceptionGroup("g", [ValueError(1), Failed("1", code=2)]),
        Many("many", [ExceptionGroup("inner", [KeyError("k")])]),
        BaseExceptionGroup("b", [KeyboardInterrupt(), ValueError()]),
        subprocess.CalledProcessError(3, ["a"], output=b"o", stderr=b"e"),
        ValueError(10**5000), ValueError(float("nan"), "\ud800"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_round_trip(error: BaseException) -> None:
    back = again(error)
    if not isinstance(error, BaseExceptionGroup):
        assert identical(error.args, back.args)
    assert identical(error, back)
    assert vars(back) == vars(error)
    assert describe(back) == describe(error)


def test_what_is_kept_outside_dict() -> None:
    error = again(FileBroken("/p"))
    assert (error.errno, error.strerror, error.filename, error.path) == (5, "broken", "/p", "/p")
    assert str(error) == "[Errno 5] broken: '/p'"
    error = again(caught(b"a\xff".decode))
    assert (error.encoding, error.object, error.start, error.end) == ("utf-8", b"a\xff", 1, 2)
    assert str(again(caught(lambda: compile("a b", "f.py", "exec")))).endswith("(f.py, line 1)")
    error = again(Slotted(5))
    assert (error.code, error._Slotted__hidden) == (5, "h")
    assert not hasattr(error, "absent")
    assert again(StopIteration(5)).value == 5
    assert again(caught(lambda: None.nothing)).name == "nothing"


def test_chain_notes_and_groups() -> None:
    def fail() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise TypeError("second")  # noqa: B904 - the context is what is tested
        except TypeError as error:
            raise Plain("third") from error

    error = caught(fail)
    error.add_note("a note")
    back = again(error)
    assert back.__notes__ == ["a note"]
    assert back.__cause__ is back.__context__
    assert repr(back.__cause__) == "TypeError('second')"
    assert repr(back.__cause__.__context__) == "KeyError('first')"
    assert back.__suppress_context__
    assert not back.__cause__.__suppress_context__
    back.add_note("another")
    assert load_error(dump_error(back)).__notes__ == ["a note", "another"]

    error = ValueError("x")
    error.__context__, error.__cause__ = KeyError("context"), KeyError("cause")
    back = again(error)
    assert (repr(back.__context__), repr(back.__cause__)) == (
        "KeyError('context')",
        "KeyError('cause')",
    )

    group = again(ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyError("k")])]))
    assert group.message == "g"
    assert [type(member) for member in group.exceptions] == [ValueError, ExceptionGroup]
    assert str(group.exceptions[1].exceptions[0]) == "'k'"


def test_cycles_are_cut() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    one.__context__ = two
    back = again(one)
    assert str(back.__cause__) == "two"
    assert back.__cause__.__cause__ is None
    group = ExceptionGroup("g", [one, KeyError("k")])
    one.__context__ = group
    assert again(group).exceptions[0].__context__ is None
    assert [type(part) for part in again(one).__context__.exceptions] == [KeyError]


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_long_chains_are_cut(link: str) -> None:
    error = last = ValueError("0")
    for n in range(3 * _DEEPEST):
        error = ValueError(str(n))
        setattr(error, link, last)
        last = error
    back, length = again(error), 0
    while getattr(back, link) is not None:
        back, length = getattr(back, link), length + 1
    assert length == _DEEPEST


def test_deep_groups_are_cut() -> None:
    error: Exception = ValueError("x")
    for n in range(3 * _DEEPEST):
        error = ExceptionGroup(str(n), [error])
    tree, depth = json.loads(dump_error(error)), 0
    while tree["members"]:
        tree, depth = tree["members"][0], depth + 1
    assert depth == _DEEPEST


def leads_back(how: str) -> BaseException:
    error = Plain("x")
    error.good = 1
    if how == "attribute":
        error.me = error
    elif how == "list":
        error.all = [{"k": (error,)}]
    elif how == "record":
        error.job = Job("j", error)
    elif how == "context":
        error.on_close = KeyError("late")
        error.on_close.__context__ = error
    else:
        error.all = ExceptionGroup("g", [error, KeyError("other")])
    return error


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ("attribute", {}), ("list", {}), ("record", {}), ("context", {"on_close": KeyError("late")}),
        ("group", {"all": ExceptionGroup("g", [KeyError("other")])}),
    ],
)  # fmt: skip
def test_an_attribute_that_leads_back_is_left_out(how: str, kept: dict[str, Any]) -> None:
    error = leads_back(how)
    assert identical(vars(again(error)), {"good": 1, **kept})
    text, back = codec_for(Any).dump_load([error])
    assert identical(vars(back[0]), {"good": 1, **kept})
    assert identical(codec_for(Any).load(text), [error])


def test_an_argument_that_leads_back_is_shown() -> None:
    error = Plain()
    error.args = (1, error)
    assert again(error).args == (1, "Plain(1, Plain(...))")
    with pytest.raises(SerializationError, match=r"\$\.e: this would not come back as it was"):
        codec_for(Any).dump({"e": error})


def test_a_wrapper_and_what_it_wraps_may_know_each_other() -> None:
    inner, outer = Plain("inner"), Plain("outer")
    inner.wrapper, inner.n = outer, 1
    outer.orig = outer.__cause__ = outer.__context__ = inner
    back = again(outer)
    assert identical(vars(back), {"orig": back.orig})
    assert back.__context__ is back.__cause__
    assert vars(back.orig) == vars(back.__cause__) == {"n": 1}
    assert vars(again(inner)).keys() == {"wrapper", "n"}
    assert again(inner).wrapper.__cause__ is None


def nested(levels: int, *names: str) -> BaseException:
    error = Plain("0")
    for n in range(1, levels + 1):
        outer = Plain(str(n))
        vars(outer).update(dict.fromkeys(names, error))
        error = outer
    return error


def test_errors_in_attributes_of_errors_take_time_by_their_number() -> None:
    error = nested(12, "inner")
    assert identical(again(error), error)
    assert identical(vars(again(error)), vars(error))
    back, length = again(nested(3 * _DEEPEST, "inner")), 0
    while hasattr(back, "inner"):
        back, length = back.inner, length + 1
    assert length == _DEEPEST


def test_of_errors_that_are_shared_at_every_level_the_outer_ones_are_kept() -> None:
    error = nested(5, "one", "two")
    assert identical(vars(again(error)), vars(error))
    error = nested(20, "one", "two")
    text = dump_error(error)
    assert len(text) < 100_000
    back = load_error(text)
    assert back.two.two.two.args == ("17",)
    for n in range(20, 0, -1):
        assert back.args == (str(n),)
        back = back.one


def test_a_long_chain_is_kept_whole_though_attributes_repeat_it() -> None:
    error = Plain("0")
    for n in range(1, 21):
        outer = Plain(str(n))
        outer.orig = outer.__cause__ = error
        error = outer
    back = again(error)
    for n in range(20, 0, -1):
        assert back.orig.args == back.__cause__.args == (str(n - 1),)
        back = back.__cause__


def test_one_error_may_be_there_many_times() -> None:
    one = Plain("x")
    one.__cause__ = KeyError("k")
    all_of_them = Plain("all")
    all_of_them.errors = [one] * 1000
    assert [str(error) for error in again(all_of_them).errors] == ["x"] * 1000


def test_the_order_of_a_set_in_a_message_does_not_matter() -> None:
    """The one that was given and the one that is read differ in it, whatever the seed of hashes."""
    outer = Plain("outer")
    outer.middle = Plain("middle")
    outer.middle.inner = [Plain({8, 0}), {Plain({0, 8})}]
    assert [str(error) for error in (Plain({8, 0}), Plain({0, 8}))] == ["{8, 0}", "{0, 8}"]
    assert vars(again(outer).middle).keys() == {"inner"}


def test_an_attribute_may_have_the_name_of_a_mark() -> None:
    outer, inner, job = Plain("outer"), Plain("inner"), Job("j", KeyError("k"))
    vars(job)["$error"] = vars(inner)["$error"] = 5
    outer.all = [inner, job]
    assert identical(vars(again(outer)), vars(outer))
    assert identical(codec_for(Any).dump_load([inner, job])[1], [inner, job])


def test_a_hook_of_the_user_may_write_an_error() -> None:
    class Task:
        def __init__(self, error: BaseException) -> None:
            self.error = error

    converter().register_unstructure_hook(Task, lambda task: converter().unstructure(task.error))
    converter().register_structure_hook(Task, lambda tree, cls: cls(converter().structure(tree, Any)))
    error = Plain("x")
    error.task, error.other = Task(error), Task(KeyError("k"))
    assert vars(again(error)).keys() == {"other"}
    assert repr(again(error).other.error) == "KeyError('k')"


def test_what_cannot_be_held_is_left_out_or_shown() -> None:
    error = Plain("a", threading.Lock(), 3)
    error.lock, error.deep, error.good = threading.Lock(), {"a": [object()]}, [1]
    text = dump_error(error)
    assert '"$opaque":"<unlocked _thread.lock' in text
    back = load_error(text)
    assert back.args[0::2] == ("a", 3)
    assert back.args[1].startswith("<unlocked _thread.lock")
    assert vars(back).keys() == {"good"}
    assert "instance at" in dump_error(Plain(Unprintable()))

    class Half:
        n = 0

    converter().register_unstructure_hook(Half, lambda half: half.n)
    converter().register_structure_hook(Half, lambda _, cls: cls())
    lost = Half()
    lost.n = 1
    assert '"args":[{"$opaque":"<' in dump_error(Plain(lost))


def test_classes_that_resist() -> None:
    error = Stubborn("a", 1)
    vars(error)["__notes__"] = 5
    back = again(error)
    assert back.args == ("a", 1)
    assert json.loads(dump_error(error))["message"] == f"<a {__name__}.Stubborn without text>"
    error = ValueError("\ud83d" + "\ude00\ud800")
    assert json.loads(dump_error(error))["message"] == "😀\ud800"
    assert again(error).args == error.args


def test_an_answer_of_a_server_is_an_error_that_can_be_asked() -> None:
    """`HTTPError` delegates what it has not to a file that no journal holds."""
    error = again(urllib.error.HTTPError("http://here/x", 503, "busy", None, None))  # type: ignore[arg-type]
    assert (error.code, error.reason, str(error)) == (503, "busy", "HTTP Error 503: busy")
    assert not hasattr(error, "read")
    assert not hasattr(error, "__notes__")
    error.add_note("a note")
    assert again(error).__notes__ == ["a note"]


def test_traceback_is_kept_as_text() -> None:
    error = caught(lambda: 1 / 0)
    text = json.loads(dump_error(error))["traceback"]
    assert text == "".join(traceback.format_exception(error))
    back = load_error(dump_error(error))
    assert vars(back) == {}
    assert dump_again(dump_error(error)) == dump_error(error)
    long = json.loads(dump_error(Plain("x" * 100_000)))["traceback"]
    assert len(long) == _LONGEST_TRACEBACK


def test_of_many_frames_the_last_are_kept() -> None:
    def fall(levels: int) -> None:
        if levels:
            fall(levels - 1)
        raise LookupError

    text = json.loads(dump_error(caught(lambda: fall(100))))["traceback"]
    assert "in caught" not in text
    assert "raise LookupError" in text


def test_a_traceback_that_cannot_be_formatted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traceback, "format_exception", lambda *_, **__: 1 / 0)
    assert json.loads(dump_error(Plain("x")))["traceback"].endswith("Plain: x")


def test_a_stand_in_for_a_class_that_is_not_here() -> None:
    tree = json.loads(dump_error(Failed("7", code=3)))
    for name in "nowhere:Failed", "builtins:eval", f"{__name__}:caught":
        back = load_error(json.dumps({**tree, "type": name, "notes": ["n"]}))
        assert type(back) is StepError
        assert (back.type_name, back.message) == (name, "order 7 failed")
        assert back.traceback == tree["traceback"]
        assert back.__notes__ == ["n"]
    group = json.loads(dump_error(ExceptionGroup("g", [Plain("x"), ValueError("y")])))
    group["members"][0]["type"] = "nowhere:Gone"
    assert [type(e) for e in load_error(json.dumps(group)).exceptions] == [StepError, ValueError]
    assert type(load_error(json.dumps({**group, "members": []}))) is StepError
    assert load_error('{"type":"a:B","message":"m","args":[]}').traceback == ""


@pytest.mark.parametrize("module", [__name__, "not_loaded"])
def test_a_class_made_on_demand_has_a_stand_in_though_it_lives(module: str) -> None:
    """As boto3 makes those of a client: in the next process it need not be there."""
    gone = type("NoSuchKey", (Plain,), {"__module__": module})
    for _ in range(2):
        back = load_error(dump_error(gone("k")))
        assert type(back) is StepError
        assert str(back) == f"{module}:NoSuchKey: k"
    error = Failed("7", code=3)
    error.__cause__, error.first = gone("k"), gone("k")
    back = again(error)
    assert type(back.__cause__) is StepError
    assert "first" not in vars(back)
    with pytest.raises(SerializationError, match=r"^\$: this would not come back as it was"):
        codec_for(Any).dump(gone("k"))


def test_parts_that_no_longer_read_are_left_out() -> None:
    gone = {"$type": "nowhere:Gone", "n": 1}
    tree = json.loads(dump_error(Slotted(5)))
    tree |= {"args": [1, gone], "attributes": {"a": gone, "b": 2}}
    tree["slots"] |= {"other": 1, "code": gone}
    back = load_error(json.dumps(tree))
    assert type(back) is Slotted
    assert back.args == (1, '{"$type":"nowhere:Gone","n":1}')
    assert vars(back)["b"] == 2
    assert "a" not in vars(back)
    assert not hasattr(back, "code")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "$: no JSON value at character 0 (ValueError)"),
        ("[]", "$: list indices must be integers or slices, not str (TypeError)"),
        ("{}", "$: 'type' (KeyError)"),
        ('{"type":"a:B"}', "$: 'message' (KeyError)"),
    ],
)
def test_text_that_is_no_error(text: str, message: str) -> None:
    with pytest.raises(SerializationError) as error:
        load_error(text)
    assert str(error.value) == message


def test_exceptions_are_values_too() -> None:
    codec = codec_for(list[Any])
    value = [Failed("7", code=3), {"e": ValueError(1)}]
    text, back = codec.dump_load(value)
    assert identical(value, back)
    assert "traceback" not in text
    with pytest.raises(SerializationError, match=r"\$\[0\]: this would not come back as it was"):
        codec.dump([ValueError(threading.Lock())])


def test_hooks_of_the_user_on_an_exception() -> None:
    class Hooked(Exception):
        pass

    converter().register_unstructure_hook(Hooked, lambda error: error.args[0])
    converter().register_structure_hook(Hooked, lambda tree, cls: cls(tree))
    assert again(Hooked("x")).args == ("x",)
    assert identical(codec_for(Any).dump_load([Hooked("x")])[1], [Hooked("x")])

    class Data:
        pass

    converter().register_structure_hook(Data, lambda tree, cls: cls())
    name = f"{__name__}:{Data.__qualname__}"
    back = load_error(json.dumps({"type": name, "message": "m", "args": []}))
    assert type(back) is StepError

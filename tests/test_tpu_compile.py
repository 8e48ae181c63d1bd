"""Compiling for a TPU: what is compiled, and how the result is read."""

import json
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from train.bench import __main__ as bench
from train.bench.tpu import compile as tpu_compile
from train.bench.tpu.hlo import Module, arrays
from train.bench.tpu.programs import (
    PROGRAMS,
    VOCAB,
    Call,
    Program,
    names_task,
    text_task,
)
from train.charlm import task as charlm_task
from train.charlm import training as charlm_training
from train.charlm.update import update_many as update_text
from train.cli import InputError
from train.names import training
from train.names.task import CALL_UPDATES
from train.names.update import update_many as update_names
from train.runs.devices import GATES, ROWS, Layout
from train.runs.files import write_json
from train.runs.guards import repeat_while_finite

# Written by hand after what libtpu makes of a training on four chips: updates until a
# number that is given, a choice between two widths, in each a loop over time forward and
# in one a loop backward, which gathers its weights, so that it has a collective.
TEXT = """\
HloModule jit_update_many, is_scheduled=true

%body_8 (p: (s32[], f32[3,7], bf16[7,28])) -> (s32[], f32[3,7], bf16[7,28]) {
  %p = (s32[]{:T(128)}, f32[3,7]{1,0:T(8,128)S(1)}, bf16[7,28]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %gates = f32[3,28]{1,0:T(8,128)S(1)} fusion(%p), kind=kOutput, backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %t = (s32[]{:T(128)}, f32[3,7]{1,0:T(8,128)S(1)}, bf16[7,28]{1,0:T(8,128)(2,1)S(1)}) tuple(%p)
}

%until_8 (p.1: (s32[], f32[3,7], bf16[7,28])) -> pred[] {
  %eight = s32[]{:T(128)} constant(8)
  ROOT %lt = pred[]{:T(512)} compare(%p.1, %eight), direction=LT
}

%body_16 (p.2: (s32[], f32[3,7], f32[28,1,7])) -> (s32[], f32[3,7], f32[28,1,7]) {
  %p.2 = (s32[]{:T(128)}, f32[3,7]{1,0:T(8,128)}, f32[28,1,7]{2,1,0:T(8,128)}) parameter(0)
  %all-gather = f32[28,1,7]{2,1,0:T(8,128)} fusion(%p.2), kind=kCustom, calls=%gather
  ROOT %f = (s32[]{:T(128)}, f32[3,7]{1,0:T(8,128)}, f32[28,1,7]{2,1,0:T(8,128)}) fusion(%p.2), backend_config={"window_config":{"estimated_cycles":"200"}}
}

%gather (g: f32[7,1,7]) -> f32[28,1,7] {
  ROOT %all-gather.1 = f32[28,1,7]{2,1,0:T(8,128)} all-gather-start(%g), dimensions={0}
}

%until_16 (p.3: (s32[], f32[3,7], f32[28,1,7])) -> pred[] {
  %sixteen = s32[]{:T(128)} constant(16)
  ROOT %lt.1 = pred[]{:T(512)} compare(%p.3, %sixteen), direction=LT
}

%narrow (p.4: f32[7,28]) -> f32[7,28] {
  %while.8 = (s32[]{:T(128)}, f32[3,7]{1,0:T(8,128)S(1)}, bf16[7,28]{1,0:T(8,128)(2,1)S(1)}) while(%p.4), condition=%until_8, body=%body_8, metadata={op_name="jit(update_many)/while/body/cond/branch_0_fun/jvp(CharLM)/while"}
  ROOT %all-reduce.1 = (f32[7,28]{1,0:T(8,128)}, f32[]{:T(128)}) all-reduce(%while.8), to_apply=%add
}

%wide (p.5: f32[7,28]) -> f32[7,28] {
  %while.9 = (s32[]{:T(128)}, f32[3,7]{1,0:T(8,128)S(1)}, bf16[7,28]{1,0:T(8,128)(2,1)S(1)}) while(%p.5), condition=%until_8, body=%body_8, metadata={op_name="jit(update_many)/while/body/cond/branch_1_fun/jvp(CharLM)/while"}
  %while.16 = (s32[]{:T(128)}, f32[3,7]{1,0:T(8,128)}, f32[28,1,7]{2,1,0:T(8,128)}) while(%while.9), condition=%until_16, body=%body_16, metadata={op_name="jit(update_many)/while/body/cond/branch_1_fun/transpose(jvp(CharLM))/while"}
  %all-reduce.2 = (f32[7,28]{1,0:T(8,128)}, f32[]{:T(128)}) all-reduce-start(%while.16), to_apply=%add
  ROOT %all-reduce.3 = s32[]{:T(128)} all-reduce(%p.5), to_apply=%add
}

%body (p.6: (s32[], f32[7,28])) -> (s32[], f32[7,28]) {
  %p.6 = (s32[]{:T(128)}, f32[7,28]{1,0:T(8,128)}) parameter(0)
  %cond = f32[7,28]{1,0:T(8,128)} conditional(%p.6, %p.6, %p.6), branch_computations={%narrow, %wide}
  ROOT %adam = (s32[]{:T(128)}, f32[7,28]{1,0:T(8,128)}) fusion(%cond), backend_config={"window_config":{"estimated_cycles":"5"}}
}

%until (p.7: (s32[], f32[7,28])) -> pred[] {
  ROOT %lt.2 = pred[]{:T(512)} compare(%p.7, %p.7), direction=LT
}

ENTRY %main (a: f32[7,28]) -> f32[7,28] {
  %a = f32[7,28]{1,0:T(8,128)} parameter(0)
  ROOT %while = (s32[]{:T(128)}, f32[7,28]{1,0:T(8,128)}) while(%a), condition=%until, body=%body, metadata={op_name="jit(update_many)/while"}
}
"""


@pytest.fixture(scope="module")
def module():
    return Module(TEXT)


def test_the_loops_of_a_program_and_where_their_weights_live(module):
    turns = {loop.body: loop.turns for loop in module.loops}
    assert turns == {"body_8": 8, "body_16": 16, "body": None}
    call = Call(None, (), {}, {(7, 28)})
    assert tpu_compile.where_weights_live(module, call) == {
        "forward": {"bf16 VMEM": 2},
        # Transposed and with an axis more; the loop of the updates is none over time.
        "backward": {"f32 HBM": 1},
    }
    nothing = Call(None, (), {}, {(7, 21)})
    assert tpu_compile.where_weights_live(module, nothing) == {
        "forward": {},
        "backward": {},
    }
    assert arrays("s32[4]{0:T(128)S(6)}")[0].space == "S(6)"
    assert arrays("f32[2,3]")[0].space == "HBM"


def test_cycles_and_collectives_are_those_of_the_longest_branch(module):
    assert module.cycles() == 8 * 100 + 16 * 200 + 5
    together = module.collectives()
    assert Counter(each.kind for each in together) == {"all-gather": 1, "all-reduce": 2}
    assert [each.is_of_gradients for each in together] == [False, True, False]
    assert len(module.collectives("body_16")) == 1
    assert not module.collectives("body_8")


def test_products_are_counted_step_by_step():
    weights = jnp.ones((3, 5)), jnp.ones((3, 7))

    def run(x, wide, count):
        def choose(x):
            return jax.lax.cond(
                wide, lambda: (x @ weights[0]).sum(), lambda: (x @ weights[1]).sum()
            )

        def body(index, loop):
            return jax.lax.scan(lambda c, _: (c + choose(x), None), loop, length=4)[
                0
            ], True

        return repeat_while_finite(count, body, 0.0)

    jaxpr = jax.make_jaxpr(run)(jnp.ones((2, 3)), True, 9).jaxpr
    assert tpu_compile.count_flops(jaxpr) == 4 * 2 * 2 * 3 * 7


def leaves(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def layout(replicas: bool = False) -> Layout:
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), (ROWS, GATES))
    return Layout(mesh, replicas)


def test_names_are_compiled_as_they_are_trained():
    call = PROGRAMS["workshop-seeds"].call("float32", layout(replicas=True))
    task = names_task("workshop", "attention", "float32", 8)
    state = jax.eval_shape(lambda: training.start(task).state)
    batches = training.call_batches(task.batches(0), 0, CALL_UPDATES)
    assert call.function is update_names
    assert leaves(call.args) == leaves((state, batches, np.int32(0)))
    assert call.static == {"trainer": task.trainer, "replicas": True, "layout": None}
    assert call.recurrent == {(8, 32, 96)}


def test_text_is_compiled_as_it_is_trained():
    call = PROGRAMS["shakespeare"].call("bfloat16", layout())
    task = text_task("shakespeare", "bfloat16")
    state = jax.eval_shape(lambda: charlm_training.start(task).state)
    tokens, key = charlm_training.call_windows(task, 0, None)
    rates = np.zeros(charlm_task.CALL_UPDATES, np.float32)
    assert call.function is update_text
    assert leaves(call.args) == leaves((state, tokens, rates, np.int32(0), key))
    assert task.trainer.model.dtype == jnp.bfloat16
    assert call.recurrent == {(384, 4 * 384)}
    assert state.params["h2o"]["bias"].shape == (VOCAB,)


def test_the_lab_has_the_lessons_streams():
    call = PROGRAMS["lab"].call("float32", layout())
    assert call.args[1].shape == (charlm_task.CALL_UPDATES, 64, 51)


def square(function) -> Program:
    """A program that squares a matrix; each time the function is asked for anew."""

    def call(dtype, layout):
        here = jax.ShapeDtypeStruct((3, 3), jnp.float32, sharding=layout.everywhere)
        return Call(function(), (here,), {}, set())

    return Program("a square", call)


def test_figures_of_a_program():
    squared = jax.jit(lambda x: x @ x)
    found = tpu_compile.figures(square(lambda: squared), "float32", layout())
    assert found["compiled"]
    assert found["traces"] == 1
    assert found["product_flops"] == 2 * 3**3
    assert found["hbm_bytes"] >= 2 * 4 * 3**2
    anew = tpu_compile.figures(
        square(lambda: jax.jit(lambda x: x @ x)), "float32", layout()
    )
    assert anew["traces"] == 2


FOUND = {
    "compiled": True,
    "compile_seconds": 12.3,
    "traces": 1,
    "hbm_bytes": 3 * 2**20,
    "product_flops": 125e9,
    "cycles_seconds": 0.00123,
    "weights": {"forward": {"bf16 VMEM": 4}, "backward": {"f32 HBM": 3, "f32 VMEM": 1}},
    "collectives": {"all-reduce": 2, "all-gather": 1},
    "gradient_reductions": 1,
    "collectives_in_time_loops": 5,
}


def test_the_table_says_everything():
    program = Program("a title", lambda *_: None, undivided="one name")
    record = tpu_compile.blank(program) | {
        "error": "it broke",
        "compiled": [
            {"dtype": "float32", "chips": "1 chip"} | FOUND,
            {"dtype": "bfloat16", "chips": "2x2", "compiled": False, "error": "no HBM"},
        ],
    }
    lines = tpu_compile.table(record).splitlines()
    assert lines[0] == "a title"
    shown = "float32 1 chip 3.0 125.000 1.23 ms bf16 VMEM 3 f32 HBM, 1 f32 VMEM 1 + 2 1"
    assert " ".join(lines[2].split()) == f"{shown} 12 s"
    assert lines[3:] == [
        "bfloat16  2x2",
        "bfloat16, 2x2: not compiled: no HBM",
        "float32, 1 chip: 5 of what the chips do together is inside the loops over time",
        "it broke",
        "2x2: one name",
    ]


def test_the_file_has_an_entry_for_every_program(tmp_path, monkeypatch, capsys):
    def fake(name):
        chips = {"dtype": "float32", "chips": "1 chip"}
        record = tpu_compile.blank(PROGRAMS[name])
        return record | {"compiled": [chips | FOUND]}

    machine = {"target": "a chip, compiled, not run", "versions": {"jax": "1"}}
    monkeypatch.setattr(tpu_compile, "in_process", fake)
    monkeypatch.setattr(tpu_compile, "machine", lambda: machine)
    file = tmp_path / "compiled.json"
    bench.main(bench.Config(tpu_compile=True, json=file))
    written = json.loads(file.read_text())
    assert written["machine"] == machine
    assert list(written["programs"]) == list(PROGRAMS)
    assert written["programs"]["lab"] == fake("lab")
    said = capsys.readouterr().out
    assert all(
        f"\n{name}: {program.title}" in said for name, program in PROGRAMS.items()
    )
    assert "compiled, not run" in said


def test_a_compiler_that_crashes_is_an_entry(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    record = tpu_compile.in_process("blog")
    assert record["error"] == "the compiler's process ended with 1: it said nothing"
    assert record["undivided"] and not record["compiled"]


def test_a_program_that_cannot_be_compiled_is_a_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too large\nat length")

    class Described:
        devices = jax.devices()

    monkeypatch.setattr(tpu_compile, "figures", refuse)
    monkeypatch.setattr(
        tpu_compile.topologies, "get_topology_desc", lambda *_, **__: Described
    )
    tpu_compile.main("blog", tmp_path / "out.json")
    record = json.loads((tmp_path / "out.json").read_text())
    assert [each["error"] for each in record["compiled"]] == [
        "RESOURCE_EXHAUSTED: too large"
    ] * 2


def test_a_compiler_that_cannot_be_used_is_an_error(tmp_path, monkeypatch):
    def locked(*_, **__):
        raise jax.errors.JaxRuntimeError("ABORTED: the lock is held\nby another")

    monkeypatch.setattr(tpu_compile.topologies, "get_topology_desc", locked)
    tpu_compile.main("blog", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == {"refused": "ABORTED: the lock is held"}

    def run(command, **_):
        write_json(tpu_compile.Path(command[-1]), written)

    monkeypatch.setattr(tpu_compile.subprocess, "run", run)
    with pytest.raises(InputError, match="cannot be used: ABORTED: the lock is held$"):
        tpu_compile.compile_all(["blog"], lambda *_: None)


def test_flags_that_exclude_each_other(monkeypatch):
    with pytest.raises(
        InputError, match="measures nothing; leave out --rows, --quick$"
    ):
        bench.Config(tpu_compile=True, rows="lab", quick=True)
    with pytest.raises(InputError, match="--programs belongs to --tpu-compile"):
        bench.Config(programs="lab")
    with pytest.raises(InputError, match="no program bst; expected some of best, "):
        bench.Config(tpu_compile=True, programs="lab,bst")
    monkeypatch.setattr(tpu_compile.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install -e "\.\[tpu-compile\]"$'):
        bench.main(bench.Config(tpu_compile=True))


def test_libtpu_compiles_the_smallest_program():
    pytest.importorskip("libtpu")
    record = tpu_compile.in_process("generation")
    assert not record["error"]
    for found in record["compiled"]:
        assert found["compiled"], found
        assert found["traces"] == 1
        assert found["hbm_bytes"] > 4 * 6_000_000
        assert sum(found["weights"]["forward"].values()) == 1
        assert not found["collectives"]

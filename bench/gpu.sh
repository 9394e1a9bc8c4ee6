#!/usr/bin/env bash
# Everything that only a GPU can show, in one run and one JSON file: speed and memory of training steps and of
# inference in float32, bf16 and fp16, with and without channels-last and torch.compile, beside torchvision's;
# the loader alone beside the model; the batch that fits; what reasoning heads and backbones cost; and short
# trainings and evaluations on a sample world ten times as large as the one that comes with the project.
#
# Run: bash bench/gpu.sh OUT.json              (once `pip install -e .` is done; needs no network then)
#      bash bench/gpu.sh OUT.json --small      (every line once on a CPU, at a tiny size: a test of this file)
#
# Every part is a process of its own. One that fails, or takes more than LIMIT seconds (900), is told in the file
# with what it said, the others run all the same, and the exit code is 1. The file is replaced as a whole after each
# part, so that what is done is there when the run is cut off. ONLY='step|cost' runs the parts whose names match.
# WORLD=FOLDER takes a world made before (data/sample, say) and WHEELS=FOLDER installs packages from there first.
set -uo pipefail

OUT=${1:?usage: bash bench/gpu.sh OUT.json [--small]}
SIZE=${2:-}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python3}
export PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir "$WORK/parts"

case "$SIZE" in
"")
    DEVICE=cuda PRECISIONS="none bf16 fp16" VARIANTS=("" --channels-last --compile "--channels-last --compile")
    STEP="--side 800 --batch 8 --rounds 20" WORKERS=$(($(nproc) < 8 ? $(nproc) : 8))
    RECIPES="reasoning_rcnn_r101_fpn sgrn_r101_fpn_working relation_r101_fpn_coco" CLASSES="80 3000" COST="--size 800 --repeats 20"
    BACKBONES="resnext50_32x4d glore_resnext50 vcrnet_resnext50" BATCH_RECIPE=faster_rcnn_r50_fpn
    MAKE="--images 2400 --test-images 800" EPOCHS=12
    TRAININGS=(float32 bf16 "bf16 channels_last compile") EVALUATIONS="float32 bf16 fp16"
    ;;
--small)
    export TORCH_COMPILE_DISABLE=1 OMP_NUM_THREADS=1 # making code for a CPU takes minutes
    DEVICE=cpu PRECISIONS="bf16" VARIANTS=("--channels-last --compile")
    STEP="--side 64 --batch 1 --rounds 1" WORKERS=1
    RECIPES="reasoning_rcnn_sample" CLASSES="80" COST="--size 64 --repeats 1"
    BACKBONES="resnext50_32x4d" BATCH_RECIPE=faster_rcnn_sample
    MAKE="--images 8 --test-images 4 --corpus 200" EPOCHS=1
    TRAININGS=("bf16 channels_last compile") EVALUATIONS="float32"
    ;;
*)
    echo "gpu.sh: found $SIZE; expected --small or nothing" >&2
    exit 2
    ;;
esac
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl || exit 1
fi
"$PYTHON" "$HERE/gpu_report.py" machine "$DEVICE" >"$WORK/machine.json" || exit 5

write() { # OUT as it is now, replaced as a whole
    "$PYTHON" "$HERE/gpu_report.py" join "$WORK" "$OUT"
}

part() { # part NAME COMMAND...: its standard output is JSON, and becomes the part of this name
    local name=$1 code=0 start
    shift
    [[ "$name" =~ ${ONLY:-.} ]] || return 0
    start=$(date +%s.%N)
    echo "$(date +%T) $name" >&2
    timeout "${LIMIT:-900}" "$@" >"$WORK/parts/$name.json" 2>"$WORK/parts/$name.log" || code=$?
    echo "$code $start $(date +%s.%N)" >"$WORK/parts/$name.end"
    [ "$code" -eq 0 ] || tail -n 3 "$WORK/parts/$name.log" >&2
    write || true
}

# Words in the lists above are options of their own.
# shellcheck disable=SC2086
{
    for precision in $PRECISIONS; do
        for more in "${VARIANTS[@]}"; do
            part "step_${precision/none/float32}${more// /}" "$PYTHON" "$HERE/train_step.py" --device $DEVICE --precision $precision \
                $STEP $more --json
        done
    done
    part loader "$PYTHON" "$HERE/train_step.py" --device $DEVICE --precision bf16 $STEP --loader --workers $WORKERS --json
    for recipe in $RECIPES; do
        for classes in $CLASSES; do
            part "cost_${recipe}_$classes" "$PYTHON" -m detector cost --recipe $recipe --classes $classes $COST --device $DEVICE --json
        done
    done
    for backbone in $BACKBONES; do
        part "cost_$backbone" "$PYTHON" -m detector cost --backbone $backbone --repeats ${COST##* } --device $DEVICE --json
    done
    if [ -z "${WORLD:-}" ]; then
        WORLD="$WORK/world"
        ONLY="" part world "$PYTHON" -m kgtool sample --seed 0 $MAKE --out "$WORLD" --json
    fi
    GRAPH="$WORK/relation.npz"
    ONLY="" part graph "$PYTHON" -m kgtool build-relation "$WORLD/vg/relationships.json" --classes "$WORLD/train.json" \
        --out "$GRAPH" --json
    part batch_size_auto "$PYTHON" -m detector train --data "$WORLD" --recipe $BATCH_RECIPE --set model.backbone.weights=none \
        --batch-size auto --dry-run --device $DEVICE --out "$WORK/run" --json
    for training in "${TRAININGS[@]}"; do
        words=($training) options="--set train.precision=${training%% *}"
        for flag in "${words[@]:1}"; do options+=" --set train.$flag=true"; done
        part "train_${training// /_}" "$PYTHON" -m detector train --data "$WORLD" --graph "$GRAPH" --recipe reasoning_rcnn_sample \
            $options --set train.workers=$WORKERS --epochs $EPOCHS --device $DEVICE --out "$WORK/run_${training// /_}" --json
    done
    for precision in $EVALUATIONS; do
        part "eval_$precision" "$PYTHON" -m detector eval "$WORK/run_${TRAININGS[0]// /_}" --data "$WORLD" \
            --precision $precision --device $DEVICE --json
    done
}
write

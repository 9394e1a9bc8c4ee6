#!/usr/bin/env bash
# Everything that only a GPU can show, in one run and one JSON file: speed and memory of training steps in
# float32, bf16 and fp16, with and without torch.compile, beside torchvision's; what reasoning heads cost; and a
# short training on a sample world ten times as large as the demo's.
#
# Run: bench/gpu.sh OUT.json            (bench/gpu.sh OUT.json cpu runs every line once, at a tiny size)
#
# Needs no network. Where packages are missing, WHEELS=FOLDER is installed first (this project's own wheel among
# them). WORLD=FOLDER is a world made elsewhere, by the three lines below that make one: without it, kgtool's
# dependencies are needed too. A step that fails is told in the file, the others run all the same, and the exit
# code is 1.
set -euo pipefail

OUT=${1:?usage: bench/gpu.sh OUT.json [cuda|cpu]}
DEVICE=${2:-cuda}
HERE=$(cd "$(dirname "$0")" && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
PYTHON=${PYTHON:-python3}
export PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

if [ "$DEVICE" = cuda ]; then
    PRECISIONS="none bf16 fp16" VARIANTS=("" --compile "--channels-last --compile") SIDE=800 BATCH=8 ROUNDS=20 COST_SIZE=800 REPEATS=20 WORKERS=8
    RECIPES="reasoning_rcnn_r101_fpn sgrn_r101_fpn_working" WORLD_SIZE="--images 2400 --test-images 600" TRAIN="--epochs 12"
else
    export TORCH_COMPILE_DISABLE=1 # making code for a CPU takes minutes
    PRECISIONS="bf16" VARIANTS=("" "--channels-last --compile") SIDE=64 BATCH=1 ROUNDS=1 COST_SIZE=64 REPEATS=1 WORKERS=1
    RECIPES="reasoning_rcnn_sample" WORLD_SIZE="--images 8 --test-images 4 --corpus 200" TRAIN="--epochs 1"
fi
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi

FAILED=0
step() { # step NAME COMMAND...: its standard output is the JSON of this name
    local name=$1 code=0
    shift
    echo "$(date +%T) $name" >&2
    "$@" >"$WORK/$name.json" 2>"$WORK/$name.log" || code=$?
    if [ "$code" -ne 0 ]; then
        FAILED=1
        tail -n 3 "$WORK/$name.log" >&2
        tail -n 1 "$WORK/$name.log" | "$PYTHON" -c \
            'import json, sys; print(json.dumps({"failed": int(sys.argv[1]), "said": sys.stdin.read().strip()}))' \
            "$code" >"$WORK/$name.json"
    fi
}

for precision in $PRECISIONS; do
    for more in "${VARIANTS[@]}"; do
        # shellcheck disable=SC2086
        step "step_${precision}$(tr -d ' ' <<<"$more")" "$PYTHON" "$HERE/train_step.py" --device "$DEVICE" \
            --precision "$precision" --side "$SIDE" --batch "$BATCH" --rounds "$ROUNDS" --json $more
    done
done
for recipe in $RECIPES; do
    for classes in 80 3000; do
        step "cost_${recipe}_$classes" "$PYTHON" -m detector cost --recipe "$recipe" --classes "$classes" \
            --size "$COST_SIZE" --repeats "$REPEATS" --device "$DEVICE" --json
    done
done
if [ -z "${WORLD:-}" ]; then
    WORLD="$WORK/world"
    # shellcheck disable=SC2086
    step world "$PYTHON" -m kgtool sample --seed 0 $WORLD_SIZE --out "$WORLD" --json
    step graph "$PYTHON" -m kgtool build-relation "$WORLD/vg/relationships.json" --classes "$WORLD/train.json" \
        --out "$WORLD/relation.npz" --json
fi
for precision in float32 bf16; do
    # shellcheck disable=SC2086
    step "train_$precision" "$PYTHON" -m detector train --data "$WORLD" --graph "$WORLD/relation.npz" \
        --recipe reasoning_rcnn_sample --set "train.precision=$precision" --set "train.workers=$WORKERS" \
        --device "$DEVICE" --out "$WORK/run_$precision" --json $TRAIN
done

"$PYTHON" - "$WORK" "$OUT" "$DEVICE" <<'END'
import json, os, platform, sys
from pathlib import Path

import torch, torchvision

work, out, device = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
machine = {
    "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads",
    "python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__,
    "cuda": torch.version.cuda, "processors": os.cpu_count(),
}
steps = {path.stem: json.loads(path.read_text()) for path in sorted(work.glob("*.json"))}
out.write_text(json.dumps({"machine": machine, **steps}, indent=1, sort_keys=True) + "\n")
print(f"{out}: {len(steps)} steps, {sum('failed' in step for step in steps.values())} failed", file=sys.stderr)
END
exit "$FAILED"

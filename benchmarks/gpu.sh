#!/usr/bin/env bash
# Everything that only a GPU can show, in ten minutes: checks first, then times, then training.
#
#     benchmarks/gpu.sh OUTPUT [CAMVID [WEIGHTS]]
#     make gpu                     OUTPUT is runs/gpu
#     make gpu-rehearsal           the same script at small sizes, on a CPU
#
# OUTPUT gets facts.txt, one text file per part, attention.csv, training.csv, recurrence_camvid.csv,
# and summary.txt with one line per part: what it was, whether it passed, its seconds. A part that
# fails does not stop the others; the exit status is that of the worst. CAMVID is the folder of the
# data set, WEIGHTS a file of MobileNetV2; without them the last part is left out, which is said.
#
# Environment: PYTHON (python3), MINUTES (9.5; of a rehearsal 30), REHEARSAL=1, and WHEELS, a folder from which what is
# missing is installed: a machine that can't reach an index gets one filled by
#     pip download --only-binary=:all: --no-deps --python-version 3.12 --dest WHEELS \
#         pytest iniconfig pluggy jaxtyping wadler-lindig beartype hypothesis docstring-parser
set -uo pipefail
output=$(mkdir -p "${1:?names the output folder}" && cd "$1" && pwd)
camvid=${2:-} weights=${3:-}
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} worst=0
export PYTHONPATH=$PWD
device=cuda minutes=${MINUTES:-9.5}
if [ "${REHEARSAL:-}" ]; then device=cpu minutes=${MINUTES:-30}; fi
end=$((SECONDS + $(awk "BEGIN {print int(60 * $minutes)}")))

# part NAME LIMIT COMMAND...: runs a command for at most LIMIT seconds, or what is left of the time
part() {
    local name=$1 limit=$2 start=$SECONDS left=$((end - SECONDS)) status=0
    shift 2
    if [ "$left" -lt 5 ]; then
        echo "$name: not run, the time was over" | tee -a "$output/summary.txt"
        worst=1
        return
    fi
    timeout --signal INT --kill-after 10 $((limit < left ? limit : left)) "$@" > "$output/$name.txt" 2>&1 || status=$?
    local verdict="passed"
    if [ $status = 124 ]; then verdict="ended by its limit of $limit s"; elif [ $status != 0 ]; then verdict="FAILED ($status)"; fi
    if [ $status != 0 ]; then worst=1; fi
    echo "$name: $verdict, $((SECONDS - start)) s; $(tail -n 1 "$output/$name.txt" | cut -c 1-160)" | tee -a "$output/summary.txt"
}

: > "$output/summary.txt"
if [ "${WHEELS:-}" ]; then
    part wheels 60 "$python" -m pip install --quiet --no-index --no-deps --find-links "$WHEELS" \
        pytest iniconfig pluggy jaxtyping wadler-lindig beartype hypothesis docstring-parser
fi
{
    date --utc
    git rev-parse HEAD 2> /dev/null
    "$python" --version
    "$python" -c "
import importlib.metadata as m
for name in ('torch', 'triton', 'numpy', 'lightning-fabric', 'flash-attn', 'flash-attn-3'):
    try: print(name, m.version(name))
    except m.PackageNotFoundError: print(name, 'absent')"
    nvidia-smi 2> /dev/null || echo "no nvidia-smi"
} > "$output/facts.txt" 2>&1

pytest="$python -m pytest --quiet -p no:cacheprovider --device $device"
if [ $device = cuda ]; then
    part kernels 150 $pytest tests/ops/test_triton.py
    part operator 60 $pytest tests/ops/test_criss_cross.py
    part network 90 $pytest tests/gpu
    part attention 200 "$python" benchmarks/attention.py --device cuda --minutes 3 --output "$output/attention.csv"
    part training 60 "$python" benchmarks/training.py --parts step --crops 769 --device cuda --output "$output/training.csv"
    recurrence="--minutes 0.7"
else
    part kernels 200 $pytest tests/ops/test_triton.py -k "twice_the_eager_form and float32"
    part operator 60 $pytest tests/ops/test_criss_cross.py -k "twice_the_eager_form"
    part network 200 $pytest tests/gpu
    part attention 60 "$python" benchmarks/attention.py --shapes 1x64x20x24 --dtypes float32 --compile none \
        --seconds 0.05 --output "$output/attention.csv"
    part training 240 "$python" benchmarks/training.py --parts step --crops 65 --step-turns 1 --output "$output/training.csv"
    recurrence="--steps 1"
fi
if [ "$camvid" ]; then
    part recurrence 300 "$python" benchmarks/recurrence_camvid.py "$camvid" ${weights:+--weights "$weights"} \
        --device $device $recurrence --output "$output/recurrence_camvid.csv"
else
    echo "recurrence: not run, no CamVid was given" | tee -a "$output/summary.txt"
fi
exit $worst

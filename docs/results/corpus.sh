# The builds of docs/results/corpus.md: two cores, about ten minutes. Run it at the repository's root, with PEGE_DATA set.
set -eu
d=${PEGE_DATA:-../shared/data}
out=${OUT:-runs/corpus-all}
build() { pege corpus build --config configs/corpus.yaml --keep-dropped "$@"; }

build --input "$d/dialogs/*.jsonl.gz" chitchat --output $out/strict                   # the paper's filter 1
build --input "$d/dialogs/*.jsonl.gz" chitchat --trailing cut --output $out/cut       # an agent's last word is cut off
python docs/results/corpus_threads.py $out/posts                                     # the same dialogs as forum threads
build --input "$out/posts/*.jsonl.gz" --layout threads --trailing cut --output $out/threads

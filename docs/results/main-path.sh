# The run of docs/results/main-path.md: two cores, about an hour and a half. Run it at the repository's root, with PEGE_DATA set.
set -eu
d=${PEGE_DATA:-../shared/data}
out=${OUT:-runs/main-path}
dialogs="$d/dialogs/empathetic-dev.en.jsonl.gz $d/dialogs/dailydialog.en.jsonl.gz $d/dialogs/esconv.en.jsonl.gz $d/dialogs/meld.en.jsonl.gz"

[ -f $out/corpus/report.json ] || pege corpus build --input $dialogs --trailing cut --window 9 --max-chars 300 \
    --end-threshold 0.6 --output $out/corpus
[ -f $out/corpus-raw/report.json ] || pege corpus build --input chitchat $dialogs --filters none --trailing cut --window 7 \
    --max-chars 300 --output $out/corpus-raw
pege train --config configs/base-chat.yaml --data $out/corpus-raw/train.jsonl --validation $out/corpus-raw/validation.jsonl \
    --training.max_steps 150 --output_dir $out/base-chat
for seed in 0 1; do
    for system in nll pege; do
        run=$out/$system-$seed
        pege train --config configs/$system-causal.yaml --model $out/base-chat --data $out/corpus/train.jsonl \
            --validation $out/corpus/validation.jsonl --training.learning_rate 5e-4 --training.max_steps 130 --seed $seed --output_dir $run
        pege selfchat --agent $run --user $out/base-chat --starters en --turns 10 --batch-size 100 --seed $seed \
            --output $run/selfchat.jsonl
    done
done

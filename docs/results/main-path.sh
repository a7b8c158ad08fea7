# The run of docs/results/main-path.md: two cores, about two hours. Run it at the repository's root, with PEGE_DATA set.
# LoRA sits on the upper half of the base's 30 layers: no gradient runs below it, and a step takes 0.7 of the time.
set -eu
d=${PEGE_DATA:-../shared/data}
out=${OUT:-runs/main-path}
dialogs="$d/dialogs/empathetic-dev.en.jsonl.gz $d/dialogs/dailydialog.en.jsonl.gz $d/dialogs/esconv.en.jsonl.gz $d/dialogs/meld.en.jsonl.gz"
half="--lora.target_modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj
    --lora.layers_to_transform 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29"
common="--dtype float32 --training.bf16 false $half" # where the cores multiply bfloat16 in hardware, leave the first two out

[ -f $out/corpus/report.json ] || pege corpus build --input $dialogs --trailing cut --window 9 \
    --end-threshold 0.6 --output $out/corpus
[ -f $out/corpus-raw/report.json ] || pege corpus build --config configs/corpus-raw.yaml --input chitchat $dialogs --window 5 \
    --output $out/corpus-raw
pege train --config configs/base-chat.yaml --data $out/corpus-raw/train --validation $out/corpus-raw/validation \
    --max_length 160 --training.max_steps 150 $common --output_dir $out/base-chat
for seed in 0 1; do
    for system in nll pege; do
        run=$out/$system-$seed
        pege train --config configs/$system-causal.yaml --model $out/base-chat --data $out/corpus/train \
            --validation $out/corpus/validation --max_length 256 --training.learning_rate 5e-4 --training.max_steps 130 \
            $common --seed $seed --output_dir $run
        pege selfchat --agent $run --user $out/base-chat --starters en --turns 10 --batch-size 100 --dtype float32 --seed $seed \
            --output $run/selfchat.jsonl
    done
done
# The check of the explanation: c counted in turns, seed 0.
run=$out/turns-0
pege train --config configs/pege-causal.yaml --model $out/base-chat --data $out/corpus/train \
    --validation $out/corpus/validation --max_length 256 --training.learning_rate 5e-4 --training.max_steps 130 \
    --loss.count turns $common --seed 0 --output_dir $run
pege selfchat --agent $run --user $out/base-chat --starters en --turns 10 --batch-size 100 --dtype float32 --seed 0 \
    --output $run/selfchat.jsonl

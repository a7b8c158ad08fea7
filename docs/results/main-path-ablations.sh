# Why PEGE does what it does (docs/results/main-path.md): seed 0 of main-path.sh with other weights and other decoding.
# Run it after main-path.sh, at the repository's root: about an hour on two cores.
set -eu
out=${OUT:-runs/main-path}
half="--lora.target_modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj
    --lora.layers_to_transform 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29"
common="--dtype float32 --training.bf16 false $half"

train() { # CONFIG, NAME, then its flags
    config=$1; name=$2; shift 2
    pege train --config configs/$config-causal.yaml --model $out/base-chat --data $out/corpus/train \
        --validation $out/corpus/validation --max_length 256 --training.learning_rate ${rate:-5e-4} --training.max_steps 130 \
        $common --seed 0 "$@" --output_dir $out/$name
}
chat() { # RUN, FILE, then its flags
    run=$1; file=$2; shift 2
    pege selfchat --agent $run --user $out/base-chat --starters en --turns 10 --batch-size 100 --dtype float32 \
        "$@" --output $file
}
train pege peg-0 --loss.beta 0                             # Eq. 3 alone
chat $out/peg-0 $out/peg-0/selfchat.jsonl --seed 0
train pege ner-0 --loss.alpha 0                            # Eq. 4 alone
chat $out/ner-0 $out/ner-0/selfchat.jsonl --seed 0
train pege strong-0 --loss.alpha 20 --loss.beta 8          # both, four times
chat $out/strong-0 $out/strong-0/selfchat.jsonl --seed 0
for seed in 0 1; do                                   # the two of main-path.sh, nearer to the mode
    for system in nll pege; do
        chat $out/$system-$seed $out/$system-$seed/selfchat-cool.jsonl --temperature 0.5 --seed $seed
    done
done
for system in nll pege; do                            # both at twice the learning rate
    rate=1e-3 train $system $system-fast-0
    chat $out/$system-fast-0 $out/$system-fast-0/selfchat.jsonl --seed 0
done

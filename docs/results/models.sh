# The runs of docs/results/models.md: two cores, about five hours; they were made on one H100. Run it at the repository's root, with
# PEGE_DATA set.
# plato-mini learns from dialogs of both languages whose licences let it ship: SMILECHAT (CC0), CPED (Apache-2.0), EmoLLM (MIT),
# chitchat_dataset (MIT). Run tables.sh first.
set -eu
d=${PEGE_DATA:-../shared/data}/dialogs
out=${OUT:-runs/models}

[ -f $out/raw/report.json ] || pege corpus build --config configs/corpus-raw.yaml --window 6 --validation_share 0.07 --output $out/raw \
    --input chitchat $d/cped.zh.jsonl.gz $d/emollm.zh.jsonl.gz $d/smilechat.zh.jsonl.gz
[ -d $out/vocabulary ] || pege tokenizer --data $out/raw/train --n_pieces 16000 --output $out/vocabulary
on_raw="--data $out/raw/train --validation $out/raw/validation --n_validation 400 --training.eval_strategy steps
    --training.per_device_eval_batch_size 64"
pege train --config configs/plato-mini-rest.yaml --tokenizer $out/vocabulary $on_raw --n_dialogs 64000 --training.max_steps ${STEPS:-2000} \
    --training.eval_steps 400 --output_dir $out/plato-mini-rest
pege train --config configs/plato-mini.yaml --model $out/plato-mini-rest $on_raw --max_length 128 --n_dialogs 6000 --training.max_steps ${MORE:-600} \
    --training.eval_steps 200 --training.save_steps 100 --output_dir $out/plato-mini
# What ships, src/pege/assets/base-plato, is this model.safetensors in float16 with its configs and tokenizer. The rows of the page are those of
# tables.sh, which start from it.
python docs/results/models.py

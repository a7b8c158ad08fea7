# The runs of docs/results/models.md: two cores, about four hours. Run it at the repository's root, with PEGE_DATA set.
# plato-mini learns on raw dialogs of both languages; the others on Chinese dialogs that the paper's filters keep.
set -eu
d=${PEGE_DATA:-../shared/data}
out=${OUT:-runs/models}
raw="$d/dialogs/cped.zh.jsonl.gz $d/dialogs/dailydialog.*.jsonl.gz $d/dialogs/emollm.zh.jsonl.gz $d/dialogs/empathetic-dev.en.jsonl.gz
    $d/dialogs/esconv.en.jsonl.gz $d/dialogs/meld.en.jsonl.gz $d/dialogs/smilechat.zh.jsonl.gz"
short="--trailing cut --window 5 --max-chars 120 --limit 15000"
steps=${STEPS:-4500}          # of plato-mini: what two cores do in two hours
more=${MORE:-600}             # of each of the four others

[ -f $out/raw/report.json ] || pege corpus build --input chitchat $raw --filters none $short --output $out/raw
[ -f $out/zh/report.json ] || pege corpus build --input $d/dialogs/*.zh.jsonl.gz $short --output $out/zh
[ -d $out/vocabulary ] || pege tokenizer --data $out/raw/train --n_pieces 16000 --output $out/vocabulary
pege train --config configs/plato-mini.yaml --tokenizer $out/vocabulary --data $out/raw/train --validation $out/raw/validation \
    --max_length 128 --training.max_steps $steps --training.eval_strategy steps --training.eval_steps 500 --output_dir $out/plato-mini
on_zh="--data $out/zh/train --validation $out/zh/validation --lexicon pege-zh --max_length 128 --training.max_steps $more"
for name in nll-plato2 pege-plato2; do
    pege train --config configs/$name.yaml --model $out/plato-mini $on_zh --output_dir $out/$name
done
for name in moel mime; do
    pege train --config configs/$name.yaml --tokenizer $out/vocabulary --word_vectors $out/plato-mini $on_zh --output_dir $out/$name
done
for name in plato-mini nll-plato2 pege-plato2 moel mime; do
    pege respond --agent $out/$name --data $out/zh/validation --n-dialogs 500 --dtype float32 --output $out/$name/answers.jsonl
    pege score $out/$name/answers.jsonl --references $out/zh/validation --json > $out/$name/static.json
    pege selfchat --agent $out/$name --user $out/plato-mini --starters zh --turns 10 --batch-size 100 --dtype float32 --output $out/$name/selfchat.jsonl
    pege score $out/$name/selfchat.jsonl --json > $out/$name/score.json
done

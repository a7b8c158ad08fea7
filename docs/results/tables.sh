# The runs of docs/results/tables.md: two cores, about twenty hours; stopped, it goes on. Run it at the repository's root, with PEGE_DATA set.
set -eu
d=${PEGE_DATA:-../shared/data}
export PEGE_DATA=$d
jobs=${JOBS:-2}

# The English base and user: SmolLM2-135M after base-chat. Where the cores do not multiply bfloat16 in hardware, see main-path.sh.
raw=runs/main-path/corpus-raw
[ -f $raw/report.json ] || pege corpus build --config configs/corpus-raw.yaml --window 5 --output $raw --input chitchat \
    $d/dialogs/empathetic-dev.en.jsonl.gz $d/dialogs/dailydialog.en.jsonl.gz $d/dialogs/esconv.en.jsonl.gz $d/dialogs/meld.en.jsonl.gz
[ -f runs/main-path/base-chat/done ] || pege train --config configs/base-chat.yaml --data $raw/train --validation $raw/validation \
    --n_validation 200 --max_length 160 --training.max_steps 150 --output_dir runs/main-path/base-chat \
    --lora.target_modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj \
    --lora.layers_to_transform 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29

# Classifiers of emotion that training never saw: sitcom and tweets; translated everyday talk.
l=$d/labelled
[ -d runs/unseen-en ] || pege emotion train --name unseen-en --output runs/unseen-en \
    --alias joy=positive optimism=positive anger=negative sadness=negative \
    --train $l/meld-sentiment-train.en.tsv.gz $l/tweeteval-sentiment-val.en.tsv.gz $l/tweeteval-emotion-train.en.tsv.gz \
    --validation $l/meld-sentiment-dev.en.tsv.gz $l/tweeteval-emotion-val.en.tsv.gz
mkdir -p runs/unseen runs/empathy
python - "$d/dialogs/dailydialog.zh.jsonl.gz" runs/unseen <<'PY'
import sys
from pege.io import read_lines, write_text

parts = {"train": ["label\ttext"], "validation": ["label\ttext"]}
for k, (_, dialog) in enumerate(read_lines(sys.argv[1])):
    for m in dialog["messages"]:
        if m["emotion"] != "surprise":  # a good one or a bad one
            parts["train" if k % 10 else "validation"].append(f"{m['emotion']}\t{' '.join(m['content'].split())}")
for name, lines in parts.items():
    write_text(f"{sys.argv[2]}/{name}.zh.tsv", "\n".join(lines) + "\n")
PY
[ -d runs/unseen-zh ] || pege emotion train --name unseen-zh --output runs/unseen-zh --alias joy=positive anger=negative sadness=negative \
    disgust=negative fear=negative --train runs/unseen/train.zh.tsv --validation runs/unseen/validation.zh.tsv

# A judge of empathy, as in docs/scores.md: English only, there is no such text in Chinese.
zcat $l/empathy-emotional-reactions.en.tsv.gz | awk -F'\t' 'NR < 3 {
    print "label\ttext" > (NR % 2 ? "runs/empathy/train.tsv" : "runs/empathy/validation.tsv") } NR > 1 {
    print ($1 == 0 ? "none" : "empathic") "\t" $3 > (NR % 10 ? "runs/empathy/train.tsv" : "runs/empathy/validation.tsv")}'
[ -d runs/empathy-en ] || pege emotion train --labels none empathic --name empathy-en --train runs/empathy/train.tsv \
    --validation runs/empathy/validation.tsv --output runs/empathy-en

pege reproduce table3 --jobs $jobs
pege reproduce table5 --jobs $jobs
python docs/results/tables.py

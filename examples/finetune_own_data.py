"""Fine-tune a chart model on your own charts: a folder of images and a CSV with one question and answer per row.

    charts/sales.png        questions.csv:   image,question,answer
    charts/visits.png                        sales.png,What was sold most?,Tea
                                             sales.png,How many cups of tea were sold?,120
                                             visits.png,"In 2023, how many visits?","1,204"

    accelerate launch -q examples/finetune_own_data.py --dataset_name questions.csv --image_dir charts --output_dir out

A fifth of the charts is held out to score the model; no chart is used for both training and scoring. With a separate
file of questions to score the model on, other column names, and several GPUs:

    accelerate launch --multi_gpu --num_processes 4 examples/finetune_own_data.py --dataset_name train.csv \\
        --eval_data test.csv --image_dir charts --column_map image=file question=q answer=a \\
        --per_device_train_batch_size 2 --output_dir out

Columns in another language, and the score before the training too, with the difference and its interval:

    accelerate launch -q examples/finetune_own_data.py --dataset_name fragen.csv --image_dir bilder \\
        --column_map question=Frage answer=Antwort image=Bild --baseline --output_dir out

The held-out charts are written to `out/split.json`. `--split_file` of every script holds out the same charts again:

    accelerate launch -q examples/finetune_own_data.py --dataset_name questions.csv --image_dir charts \\
        --split_file out/split.json --learning_rate 2e-5 --output_dir out2
    chartqa-ft evaluate --model_name_or_path out --dataset_name questions.csv --image_dir charts \\
        --split_file out/split.json --output_dir scores

Another model, with LoRA to need less GPU memory; all arguments in one YAML file:

    accelerate launch -q examples/finetune_own_data.py --dataset_name questions.csv --image_dir charts --lora \\
        --model_name_or_path HuggingFaceTB/SmolVLM-256M-Instruct --output_dir out
    accelerate launch -q examples/finetune_own_data.py config.yaml

Rows may also have a `source`, human or augmented; the two are then scored separately too. An error message gives the
number of an invalid row; `--on_error skip` drops such rows and reports how many. The output folder contains the model,
`predictions.jsonl`, `metrics.json`, `curves.png` with losses and accuracies, and `answers.png` with some answers,
mistakes first; with `--report` also `report.html`, which shows every answer with its chart. `-q` leaves out the
traceback that accelerate adds when a script ends with an error. To ask the model:

    model, processor, _ = chartqa_ft.load_checkpoint("out")
    chartqa_ft.answer_questions(model, processor, "charts/new.png", ["What was sold least?"])
"""

from chartqa_ft.scripts.finetune_own_data import main
from chartqa_ft.scripts.process import run_script

if __name__ == "__main__":
    run_script(main, description=__doc__)

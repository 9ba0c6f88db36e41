"""Improve a chat model on ChartQA by reinforcement learning, with TRL's `GRPOTrainer` and the metric as the reward.

Start from a model that answers some questions right, such as one that has been fine-tuned: GRPO learns from questions
whose sampled answers differ in their reward. All arguments of `GRPOConfig`, and `--use_peft`, are those of TRL.

    pip install 'chartqa_ft[rl]'
    python examples/grpo_chartqa.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \
        --dataset_name HuggingFaceM4/ChartQA --use_peft --max_completion_length 32 --output_dir out_grpo
"""

from functools import partial

from trl import GRPOConfig, GRPOTrainer, ModelConfig, ScriptArguments, TrlParser, get_peft_config

from chartqa_ft import as_grpo_dataset, load_chartqa, load_checkpoint, relaxed_accuracy_reward

if __name__ == "__main__":
    parser = TrlParser((ScriptArguments, GRPOConfig, ModelConfig))
    script_args, training_args, model_args = parser.parse_args_and_config()

    revision = None if model_args.model_revision == "main" else model_args.model_revision  # a folder has none
    model, processor, adapter = load_checkpoint(
        model_args.model_name_or_path, revision=revision, dtype=model_args.dtype
    )
    system = getattr(adapter, "system_prompt", None)
    charts = load_chartqa(script_args.dataset_name, split=script_args.dataset_train_split)

    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        args=training_args,
        reward_funcs=partial(relaxed_accuracy_reward, strip=True),
        train_dataset=as_grpo_dataset(charts, prompt=adapter.prompt, system=system),  # as chartqa_ft asks
        peft_config=get_peft_config(model_args),
    )
    trainer.train()

    trainer.save_model(training_args.output_dir)
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=script_args.dataset_name)

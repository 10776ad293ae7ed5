import type { TrainCommand } from '@mlx-training/contract'
import type { Job } from './port.ts'

/** What the engine is told; everything is resolved and nothing of the user's own files is named. */
export function trainCommand(job: Job, modelPath: string): TrainCommand {
  const { request, plan } = job
  const { lora_r, lora_alpha, lora_dropout, lora_target_modules } = request.lora
  return {
    type: 'train',
    job_id: job.id,
    attempt: job.attempt,
    experiment_name: job.name,
    model_path: modelPath,
    model_name: plan.model.name,
    dataset: {
      path: plan.dataset.path,
      sha256: plan.dataset.sha256,
      format: plan.dataset.format,
      validation_path: plan.validation?.path ?? null,
      batch_size: request.dataset.batch_size,
      max_seq_length: request.dataset.max_seq_length,
      shuffle: request.dataset.shuffle,
    },
    method: plan.method,
    lora:
      plan.method === 'full'
        ? null
        : { rank: lora_r, alpha: lora_alpha, dropout: lora_dropout, target_modules: lora_target_modules },
    epochs: request.epochs,
    max_steps: request.max_steps ?? null,
    learning_rate: request.learning_rate,
    lr_scheduler_type: request.lr_scheduler_type,
    warmup_ratio: request.warmup_ratio,
    weight_decay: request.weight_decay,
    max_grad_norm: request.max_grad_norm,
    gradient_accumulation_steps: request.gradient_accumulation_steps,
    seed: request.seed,
    save_steps: request.save_steps ?? null,
    output_dir: plan.outputDir,
    // Not by `attempt`: one that ended before the engine took over the folder has left an older experiment's
    // checkpoints there (overwrite), which are not to be gone on from.
    resume: job.progress.prepared !== null,
  }
}

import { join } from 'node:path'
import { StartRequest, type TrainCommand } from '@mlx-training/contract'
import { Value } from 'typebox/value'
import type { Job, JobProgress } from './port.ts'

type Commanded = Pick<Job, 'id' | 'attempt' | 'name' | 'request' | 'plan'> & {
  progress: Pick<JobProgress, 'prepared' | 'memoryLevel'> & Partial<Pick<JobProgress, 'step' | 'rollbacks'>>
}

/** For tokenised data sets. */
export const tokenCache = (home: string): string => join(home, 'cache', 'tokens')

/** What the engine is told; everything is resolved and nothing of the user's own files is named. `cachePath`: for
 *  tokenised data sets; `lease`: see lease.ts. */
export function trainCommand(
  job: Commanded,
  modelPath: string,
  cachePath: string,
  lease: string | null = null,
): TrainCommand {
  const { plan } = job
  // A job that an older version queued lacks what has been added since.
  const request = Value.Default(StartRequest, structuredClone(job.request)) as StartRequest
  const { dataset } = request
  return {
    type: 'train',
    job_id: job.id,
    attempt: job.attempt,
    experiment_name: job.name,
    // A whole model that a run begins with takes its base's place.
    model_path: plan.method === 'full' && plan.initial ? plan.initial.path : modelPath,
    model_name: plan.model.name,
    dataset: {
      path: plan.dataset.path,
      sha256: plan.dataset.sha256,
      format: plan.dataset.format,
      validation_path: plan.validation?.path ?? null,
      validation_sha256: plan.validation?.sha256 ?? null,
      validation_split: dataset.validation_split ?? null,
      batch_size: dataset.batch_size,
      max_seq_length: dataset.max_seq_length,
      shuffle: dataset.shuffle,
      loss_on: dataset.loss_on,
      truncation: dataset.truncation,
      packing: dataset.packing ?? null,
      cache_path: cachePath,
    },
    method: plan.method,
    lora: plan.method === 'full' ? null : loraOf(request),
    epochs: request.epochs,
    max_steps: request.max_steps ?? null,
    learning_rate: request.learning_rate,
    optimizer: request.optimizer,
    lr_scheduler_type: request.lr_scheduler_type,
    warmup_ratio: request.warmup_ratio,
    weight_decay: request.weight_decay,
    max_grad_norm: request.max_grad_norm,
    gradient_accumulation_steps: request.gradient_accumulation_steps,
    seed: request.seed,
    eval_steps: request.eval_steps ?? null,
    early_stopping_patience: request.early_stopping_patience ?? null,
    early_stopping_threshold: request.early_stopping_threshold,
    load_best_model_at_end: request.load_best_model_at_end,
    sample_prompts: request.sample_prompts,
    sample_steps: request.sample_steps ?? null,
    sample_max_tokens: request.sample_max_tokens,
    save_steps: request.save_steps ?? null,
    ranks: request.ranks,
    memory_level: job.progress.memoryLevel,
    output_dir: plan.outputDir,
    lease,
    // Not by `attempt`: one that ended before the engine took over the folder has left an older experiment's
    // checkpoints there (overwrite), which are not to be gone on from.
    resume: job.progress.prepared !== null,
    told_step: job.progress.step?.step ?? 0,
    told_rollbacks: job.progress.rollbacks ?? 0,
    initial_adapter: plan.method === 'full' ? null : (plan.initial?.path ?? null),
  }
}

function loraOf({ lora }: StartRequest): TrainCommand['lora'] {
  return {
    rank: lora.lora_r,
    alpha: lora.lora_alpha,
    dropout: lora.lora_dropout,
    target_modules: lora.lora_target_modules,
    use_rslora: lora.use_rslora,
    use_dora: lora.use_dora,
    plus_ratio: lora.loraplus_lr_ratio,
    layers: lora.lora_layers ?? null,
  }
}

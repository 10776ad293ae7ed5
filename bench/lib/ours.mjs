// Our trainer, driven as the server drives it: a Train command on stdin, frames on file descriptor 3.
import { ENGINE_SOURCE, PYTHON } from '../../scripts/lib.mjs'
import { measure } from './measure.mjs'

/** packages/contract/src/frames.ts describes every field. */
export function trainCommand({ model, rows, output, cache, settings, dataset = {}, lora = {}, ...other }) {
  return {
    type: 'train',
    job_id: 'bench',
    attempt: 1,
    experiment_name: 'bench',
    model_path: model,
    model_name: 'bench',
    dataset: {
      path: rows.path,
      sha256: rows.sha256,
      format: 'alpaca',
      validation_path: null,
      validation_split: null,
      batch_size: settings.batch_size,
      max_seq_length: settings.max_seq_length,
      shuffle: true,
      loss_on: 'completions',
      truncation: 'truncate',
      packing: null,
      cache_path: cache,
      ...dataset,
    },
    method: 'lora',
    lora: {
      rank: settings.rank,
      alpha: settings.alpha,
      dropout: 0,
      target_modules: settings.targets,
      use_rslora: false,
      use_dora: false,
      plus_ratio: 1,
      layers: null,
      ...lora,
    },
    epochs: 1,
    max_steps: null,
    learning_rate: settings.learning_rate,
    optimizer: 'adamw',
    lr_scheduler_type: 'constant',
    warmup_ratio: 0,
    weight_decay: settings.weight_decay,
    max_grad_norm: settings.max_grad_norm,
    gradient_accumulation_steps: 1,
    seed: settings.seed,
    eval_steps: null,
    early_stopping_patience: null,
    early_stopping_threshold: 0,
    load_best_model_at_end: false,
    sample_prompts: [],
    sample_steps: null,
    sample_max_tokens: 64,
    save_steps: null,
    ranks: 1,
    memory_level: 0,
    output_dir: output,
    resume: false,
    ...other,
  }
}

/** `cores`: to be kept to so many. */
export function runOurs(command, log, cores) {
  const bound = cores ? ['taskset', '--cpu-list', `0-${cores - 1}`] : []
  const [program, ...args] = [...bound, PYTHON, '-m', 'mlx_engine.train']
  return measure(program, args, {
    env: {
      ...process.env,
      PYTHONPATH: ENGINE_SOURCE,
      PYTHONUNBUFFERED: '1',
      HF_HUB_OFFLINE: '1',
      TOKENIZERS_PARALLELISM: 'false',
    },
    from: 3,
    input: `${JSON.stringify(command)}\n`,
    parse: event,
    log,
  })
}

/** A frame as one of the events that all peers have in common, with what else is worth keeping. */
function event(line) {
  const { type, ...frame } = JSON.parse(line)
  switch (type) {
    case 'hello':
      return { event: 'hello', about: { backend: frame.backend, dtype: frame.dtype } }
    case 'prepared':
      return {
        event: 'ready',
        tokens: frame.tokens,
        trained: frame.trained_tokens,
        about: { packing: frame.packing, lanes: frame.lanes, ranks: frame.ranks },
      }
    case 'step':
      return {
        event: 'step',
        loss: frame.loss,
        tokens: frame.tokens,
        trained: frame.trained_tokens,
        positions: frame.tokens / (1 - frame.padding_share),
      }
    case 'memory':
    case 'rollback':
    case 'warning':
      return { event: 'note', message: frame.message }
    case 'error':
      return { event: 'error', message: frame.message, last: true }
    case 'finished':
      return { event: 'finished', last: true }
  }
  return null
}

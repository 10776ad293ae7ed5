// Who is compared: how each is started on the same rows, and what it is.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PYTHON, ROOT, VENV } from '../../scripts/lib.mjs'
import { PEERS_PYTHON } from './environment.mjs'
import { measure } from './measure.mjs'
import { runOurs, trainCommand } from './ours.mjs'

// The reference BLAS needs minutes for a step of 4 rows: this many are enough for a speed, and too few for a loss.
export const SLOW_STEPS = 2

/** `run({model, base, rows, output, log, settings})`, base being the model in plain float32, resolves to what measure() does; `adapter` is the format it leaves in `output`. */
export const PEERS = {
  ours: ours('ours'),
  'ours-qlora': ours('ours, QLoRA (4 bits)', { method: 'qlora' }),
  'ours-padded': ours('ours, padded', { dataset: { packing: false } }),
  'mlx-lm': {
    plain: true,
    title: 'mlx_lm.lora as installed',
    adapter: 'mlx',
    slow: true,
    run: (task) => runMlxLm(task.model, {}, task),
  },
  'mlx-lm-mkl': {
    title: 'mlx_lm.lora, MKL, float32 base',
    adapter: 'mlx',
    run: (task) => runMlxLm(task.base, { LD_PRELOAD: 'libmkl_rt.so.3', LD_LIBRARY_PATH: join(VENV, 'lib') }, task),
  },
  'peft-fp32': {
    title: 'PyTorch + PEFT float32',
    adapter: 'peft',
    run: (task) => runPeft('peft_loop.py', ['--dtype', 'float32'], task),
  },
  'peft-bf16': {
    title: 'PyTorch + PEFT bfloat16',
    adapter: 'peft',
    run: (task) => runPeft('peft_loop.py', ['--dtype', 'bfloat16'], task),
  },
  'peft-packed': {
    title: 'PEFT float32, packed',
    adapter: 'peft',
    run: (task) => runPeft('peft_loop.py', ['--dtype', 'float32', '--packed'], task),
  },
  'peft-trainer': {
    title: 'PEFT with transformers.Trainer',
    adapter: 'peft',
    run: (task) => runPeft('peft_trainer.py', ['--dtype', 'float32'], task),
  },
  'peft-tuned': {
    title: 'PEFT float32, logits of responses only',
    adapter: 'peft',
    optional: true,
    run: (task) => runPeft('peft_loop.py', ['--dtype', 'float32', '--responses-only'], task),
  },
}

/** `more`: what the command has besides. */
function ours(title, more = {}) {
  return {
    plain: true, // needs neither PyTorch nor the float32 base
    title,
    adapter: 'mlx',
    run: ({ model, rows, output, log, settings }) =>
      runOurs(trainCommand({ model, rows, output, cache: join(output, 'cache'), settings, ...more }), log),
  }
}

function runPeft(script, options, { base, rows, output, log, settings }) {
  const args = {
    '--model': base,
    '--rows': rows.path,
    '--output': output,
    '--batch-size': settings.batch_size,
    '--max-seq-length': settings.max_seq_length,
    '--rank': settings.rank,
    '--alpha': settings.alpha,
    '--learning-rate': settings.learning_rate,
    '--weight-decay': settings.weight_decay,
    '--max-grad-norm': settings.max_grad_norm,
    '--seed': settings.seed,
  }
  return measure(
    PEERS_PYTHON,
    [
      join(ROOT, 'bench', 'peers', script),
      ...Object.entries(args).flatMap(([name, value]) => [name, String(value)]),
      ...['--target-modules', ...settings.targets],
      ...options,
    ],
    {
      env: { ...process.env, HF_HUB_OFFLINE: '1', CUDA_VISIBLE_DEVICES: '' },
      parse: (line) => (line.startsWith('{"event"') ? JSON.parse(line) : null),
      log,
    },
  )
}

/** The stock command. It says nothing of the tokens of a step, so that only times come from it. */
function runMlxLm(model, env, { rows, output, log, settings, steps }) {
  mkdirSync(output, { recursive: true })
  const config = join(output, 'lora.json') // YAML, of which JSON is a part: scale and keys have no option
  writeFileSync(
    config,
    JSON.stringify({
      model,
      train: true,
      data: dirname(rows.path), // where it looks for train.jsonl
      fine_tune_type: 'lora',
      mask_prompt: true,
      num_layers: -1,
      lora_parameters: {
        rank: settings.rank,
        scale: settings.alpha / settings.rank,
        dropout: 0,
        keys: settings.targets.map((name) => `self_attn.${name}`),
      },
      batch_size: settings.batch_size,
      max_seq_length: settings.max_seq_length,
      iters: steps,
      steps_per_report: 1,
      save_every: steps,
      optimizer: 'adamw',
      optimizer_config: { adamw: { weight_decay: settings.weight_decay, bias_correction: true } },
      learning_rate: settings.learning_rate,
      seed: settings.seed,
      adapter_path: output,
    }),
  )
  return measure(PYTHON, ['-m', 'mlx_lm', 'lora', '--config', config], {
    env: { ...process.env, PYTHONUNBUFFERED: '1', HF_HUB_OFFLINE: '1', ...env },
    parse: mlxLmEvent,
    log,
  })
}

// Control sequences; ESC is what they begin with.
// biome-ignore lint/suspicious/noControlCharactersInRegex: see above
const STYLE = /\x1b\[[0-9;]*[A-Za-z]/g

function mlxLmEvent(line) {
  const text = line.replace(STYLE, '').trim()
  if (/^iter\s+train_loss/.test(text)) return { event: 'ready' }
  const report = /^\d+\s+([\d.]+|nan|inf)\s+[▼▲]/.exec(text)
  return report ? { event: 'step', loss: Number(report[1]) } : null
}

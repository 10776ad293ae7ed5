/**
 * The engine's protocol, version 1: JSON lines. The engine writes frames to file descriptor 3 and reads
 * commands from stdin; EOF on stdin means exit. stdout and stderr are logs only.
 * engine/src/mlx_engine/protocol.py is the other side; engine/tests/golden_frames.jsonl is read by both tests.
 */
import { type Static, Type } from 'typebox'
import { enumOf, Nullable } from './common.ts'
import { ChatMessage, ToolCall, ToolDescription } from './generate.ts'
import { DATASET_FORMATS } from './job.ts'
import { LOSS_ON, OPTIMIZERS, SCHEDULES, TRUNCATIONS } from './start.ts'
import { SupervisionReport } from './supervision.ts'

export const PROTOCOL_VERSION = 1

const frame = <const N extends string, P extends Record<string, import('typebox').TSchema>>(name: N, properties: P) =>
  Type.Object({ type: Type.Literal(name), ...properties }, { additionalProperties: false })

// ---- engine → server, every process ----

/** First frame of every engine process. */
export const HelloFrame = frame('hello', {
  protocol: Type.Integer(),
  pid: Type.Integer(),
  device: Type.String(),
  backend: Type.String(),
  dtype: Type.String(),
  gflops: Nullable(Type.Number()),
  kernels: Nullable(Type.String({ description: 'Told by the probe, on a CPU' })),
  mlx_version: Type.String(),
  mlx_lm_version: Type.String(),
})
/** Every 2 s from a thread of its own, whatever the main thread does. */
export const AliveFrame = frame('alive', { memory_mb: Type.Number() })
export const ErrorKind = enumOf([
  'invalid_model',
  'invalid_dataset',
  'invalid_parameters',
  'context_length',
  'out_of_memory',
  'disk_full',
  'non_finite',
  'lease_lost',
  'busy',
  'protocol',
  'internal',
] as const)
/** The process ends after it (training), or goes on with `id` failed (serving). */
export const ErrorFrame = frame('error', {
  id: Nullable(Type.String()),
  kind: ErrorKind,
  message: Type.String({ description: 'One line for the user' }),
  traceback: Nullable(
    Type.String({
      description: 'Last lines of the Python traceback, for the log',
    }),
  ),
  retry_after: Type.Optional(Nullable(Type.Number({ description: 'Seconds, of busy' }))),
})

// ---- training ----

/** What the engine is doing before the first step: loading_model, quantizing, tokenizing, … `total` 0: unknown. */
export const StageFrame = frame('stage', {
  stage: Type.String(),
  done: Type.Integer(),
  total: Type.Integer(),
})
export const PreparedFrame = frame('prepared', {
  total_steps: Type.Integer(),
  steps_per_epoch: Type.Integer(),
  resumed_from_step: Type.Integer({ description: '0: from the start' }),
  samples: Type.Integer({ description: 'Rows that will be trained on' }),
  samples_dropped: Type.Integer({
    description: 'Rows left out, e.g. without a supervised token',
  }),
  samples_truncated: Type.Integer(),
  tokens: Type.Integer({ description: 'Of one epoch' }),
  trained_tokens: Type.Integer({
    description: 'Of one epoch: those that carry loss',
  }),
  validation_samples: Type.Integer({ description: '0: nothing is held out' }),
  trainable_params: Type.Integer(),
  total_params: Type.Integer(),
  target_modules: Type.Array(Type.String()),
  packing: Type.Boolean(),
  lanes: Type.Integer({ description: 'Threads that compute pieces of a step side by side' }),
  ranks: Type.Integer({ description: 'Processes that share each step' }),
})
export const StepFrame = frame('step', {
  step: Type.Integer({ description: 'Optimiser steps done' }),
  epoch: Type.Integer({ description: '1-based' }),
  loss: Nullable(
    Type.Number({
      description: 'Token-weighted mean; null when the step was skipped as non-finite',
    }),
  ),
  smoothed_loss: Nullable(Type.Number()),
  learning_rate: Type.Number(),
  grad_norm: Nullable(Type.Number({ description: 'Before clipping' })),
  tokens: Type.Integer({ description: 'Non-padding tokens of this step' }),
  trained_tokens: Type.Integer(),
  tokens_per_second: Type.Number(),
  trained_tokens_per_second: Type.Number(),
  padding_share: Type.Number({ description: 'Of the positions computed, 0 to 1' }),
  processed_samples: Type.Integer({
    description: 'Since the start of the run, over all epochs',
  }),
  memory_mb: Type.Number(),
  seconds_remaining: Nullable(Type.Number()),
  ceded_seconds: Type.Optional(Type.Number({ description: 'Given way to answers, since the step before' })),
})
export const EvalFrame = frame('eval', {
  step: Type.Integer(),
  loss: Type.Number({
    description: 'Token-weighted mean over the whole validation set',
  }),
  trained_tokens: Type.Integer(),
  perplexity: Type.Number(),
  token_accuracy: Type.Number({ description: 'Share of the supervised tokens that are the most likely ones' }),
  best: Type.Boolean({ description: 'The lowest so far of the model in training; never at step 0, which is the base' }),
})
/** What the base and the model in training answer to one of sample_prompts. */
export const SampleFrame = frame('sample', {
  step: Type.Integer(),
  prompt: Type.String(),
  base: Type.String(),
  tuned: Type.String(),
})
export const CheckpointFrame = frame('checkpoint', {
  step: Type.Integer(),
  path: Type.String({ description: 'A complete, fsynced folder' }),
  loss: Nullable(Type.Number()),
  validation_loss: Nullable(Type.Number({ description: 'When it was evaluated at this very step' })),
  best: Type.Boolean(),
})
/** Repeated non-finite steps: the run goes on from an earlier one. What came after that is as if it had not been. */
export const RollbackFrame = frame('rollback', {
  step: Type.Integer({ description: 'Goes on after this many optimiser steps' }),
  learning_rate_scale: Type.Number({ description: 'Of the whole schedule from now on' }),
  message: Type.String(),
})
/** Memory ran out: from now on a step is computed in smaller pieces, with the same result to rounding. */
export const MemoryFrame = frame('memory', {
  level: Type.Integer({ description: '0: as at first; each one more halves what is computed at a time' }),
  message: Type.String(),
})
/** The result, loaded through the serving path. */
export const VerifiedFrame = frame('verified', {
  ok: Type.Boolean(),
  message: Type.String({ description: 'What was seen, in a sentence' }),
  logit_difference: Nullable(Type.Number({ description: "Largest between the result's and the base's" })),
  serving_loss: Nullable(Type.Number({ description: 'null, as the others: it could not be loaded, or is not finite' })),
  trainer_loss: Nullable(Type.Number({ description: 'On the same rows' })),
})
export const WarningFrame = frame('warning', {
  code: Type.String(),
  message: Type.String(),
})
/** Last frame of a training process that ended as it should; the output folder is complete. */
export const FinishedFrame = frame('finished', {
  outcome: enumOf(['completed', 'stopped', 'suspended'] as const, {
    description: 'suspended: checkpointed after a suspend command, to be continued later',
  }),
  step: Type.Integer(),
  loss: Nullable(Type.Number()),
  best_step: Nullable(Type.Integer({ description: 'Whose model is the result, when that is not the last' })),
  reason: Nullable(Type.String({ description: 'Why it ended before its last step' })),
})

// ---- estimate ----

/**
 * Of mlx_engine.estimate, which is given a Train command and writes nothing: what is known before anything is measured,
 * should that make memory run out, and again at the end. The last one counts.
 */
export const EstimatedFrame = frame('estimated', {
  total_steps: Type.Integer(),
  steps_per_epoch: Type.Integer(),
  samples: Type.Integer(),
  samples_dropped: Type.Integer(),
  samples_truncated: Type.Integer(),
  tokens: Type.Integer(),
  trained_tokens: Type.Integer(),
  longest_sample: Type.Integer(),
  padding_share: Type.Number(),
  measured_steps: Type.Integer(),
  seconds: Type.Number({ description: 'Of the whole run' }),
  seconds_per_step: Nullable(Type.Number()),
  tokens_per_second: Nullable(Type.Number()),
  peak_memory_mb: Nullable(Type.Number()),
  available_memory_mb: Type.Number(),
  fits: Type.Boolean(),
  advice: Type.Array(Type.String()),
  trainable_params: Type.Integer(),
  total_params: Type.Integer(),
  target_modules: Type.Array(Type.String()),
})

// ---- generation ----

export const LoadedFrame = frame('loaded', {
  model_path: Type.String(),
  seconds: Type.Number(),
})
const LikelyToken = {
  id: Type.Integer({ description: "In the model's vocabulary" }),
  text: Type.String({ description: 'U+FFFD stands for bytes of a character that the token does not complete' }),
  logprob: Type.Number({ description: 'Natural logarithm, before temperature and penalties' }),
}
/** Text that is safe to show: whole characters, and nothing that may become a stop sequence. */
export const TokenFrame = frame('token', {
  id: Type.String(),
  text: Type.String({ description: 'Empty in a last frame that only brings logprobs' }),
  index: Type.Integer({ description: 'Which of the n answers' }),
  logprobs: Nullable(
    Type.Array(
      Type.Object({
        ...LikelyToken,
        top: Type.Array(Type.Object(LikelyToken), { description: 'The likeliest, best first' }),
      }),
      { description: 'Of the tokens sampled since the last frame of this answer, when asked for' },
    ),
  ),
})
const FinishReason = enumOf(['stop', 'length', 'cancelled'] as const)
export const DoneFrame = frame('done', {
  id: Type.String(),
  text: Type.String({
    description: 'The first answer, whole, stop sequences removed',
  }),
  finish_reason: FinishReason,
  prompt_tokens: Type.Integer(),
  completion_tokens: Type.Integer({ description: 'Of all answers' }),
  cached_tokens: Type.Integer({ description: 'Of the prompt: not computed anew' }),
  choices: Type.Array(
    Type.Object({ text: Type.String(), finish_reason: FinishReason, completion_tokens: Type.Integer() }),
    { description: 'All n answers' },
  ),
  timing: Type.Object({
    queue_seconds: Type.Number(),
    prefill_seconds: Type.Number({ description: 'From there to where the first token can be computed' }),
    decode_seconds: Type.Number(),
  }),
})

// ---- import of a GGUF file ----

export const ImportedFrame = frame('imported', {
  path: Type.String(),
  total_params: Type.Integer(),
})

// ---- inspection of a data set ----

/** Without a report: it was cancelled. */
export const InspectedFrame = frame('inspected', { id: Type.String(), report: Nullable(SupervisionReport) })
/** A slice of the JSON of an array of PreviewRow: rows may be longer than a frame. A single empty array: cancelled. */
export const PreviewedFrame = frame('previewed', {
  id: Type.String(),
  json: Type.String(),
  more: Type.Boolean({ description: 'Whether another slice follows' }),
})

// ---- evaluation ----

/** Rows of the data set, column by column; a row that is several examples is one. */
export const ScoredFrame = frame('scored', {
  samples: Type.Array(Type.Integer(), { description: 'Row numbers in the file that the user gave, from 0' }),
  trained: Type.Array(Type.Integer(), { description: 'Supervised tokens of each' }),
  correct: Type.Array(Type.Integer(), { description: 'How many of these are the most likely ones' }),
  losses: Type.Array(Nullable(Type.Number()), { description: 'Summed over these; null: not finite' }),
})
/** Last frame of an evaluate process. */
export const EvaluatedFrame = frame('evaluated', {
  rows: Type.Integer(),
  rows_dropped: Type.Integer({
    description: 'Of the whole data set: nothing of them is supervised, or they are too long',
  }),
  rows_truncated: Type.Integer(),
  trained_tokens: Type.Integer(),
  loss: Nullable(Type.Number({ description: 'Mean over the supervised tokens' })),
  token_accuracy: Type.Number(),
  seconds: Type.Number({ description: 'Of the evaluation, without loading and tokenising' }),
})

export const FRAMES = {
  hello: HelloFrame,
  alive: AliveFrame,
  error: ErrorFrame,
  stage: StageFrame,
  prepared: PreparedFrame,
  step: StepFrame,
  eval: EvalFrame,
  sample: SampleFrame,
  checkpoint: CheckpointFrame,
  rollback: RollbackFrame,
  memory: MemoryFrame,
  verified: VerifiedFrame,
  warning: WarningFrame,
  finished: FinishedFrame,
  estimated: EstimatedFrame,
  loaded: LoadedFrame,
  token: TokenFrame,
  done: DoneFrame,
  imported: ImportedFrame,
  inspected: InspectedFrame,
  previewed: PreviewedFrame,
  scored: ScoredFrame,
  evaluated: EvaluatedFrame,
} as const
export type FrameType = keyof typeof FRAMES
export type Frame = { [K in FrameType]: Static<(typeof FRAMES)[K]> }[FrameType]
export type FrameOf<K extends FrameType> = Static<(typeof FRAMES)[K]>

// ---- server → engine ----

/** One row of a data set snapshot (JSONL), the only data form that the engine reads. */
export const SnapshotRow = Type.Object({
  sample: Type.Integer({
    description: 'Row number in the file that the user gave, from 0',
  }),
  messages: Type.Array(
    Type.Object({
      role: Type.String(),
      content: Type.String(),
      train: Type.Optional(Type.Boolean({ description: 'Of an assistant turn: false is shown but not learned' })),
    }),
    {
      description: 'Roles system, user, assistant, tool; a call of a tool is assistant content',
    },
  ),
  tools: Type.Optional(
    Type.Array(Type.Unknown(), {
      description: 'JSON-schema function descriptions',
    }),
  ),
  alpaca: Type.Optional(
    Type.Object(
      { instruction: Type.String(), input: Type.String() },
      {
        description: 'For base models without a chat template: the Stanford text is built from it',
      },
    ),
  ),
  raw: Type.Optional(
    Type.Object(
      { prompt: Type.String(), completion: Type.String() },
      {
        description: 'Plain text to continue, without a template; messages is empty then, and so is the prompt of text',
      },
    ),
  ),
})
export type SnapshotRow = Static<typeof SnapshotRow>

const DatasetSpec = Type.Object({
  path: Type.String({ description: 'Snapshot (JSONL of SnapshotRow)' }),
  sha256: Type.String(),
  format: enumOf(DATASET_FORMATS),
  validation_path: Nullable(Type.String({ description: 'Snapshot of the held-out rows' })),
  validation_sha256: Type.Optional(Nullable(Type.String())),
  validation_split: Nullable(Type.Number({ description: 'Share of the rows to hold out, by hash' })),
  batch_size: Type.Integer(),
  max_seq_length: Type.Integer(),
  shuffle: Type.Boolean(),
  loss_on: enumOf(LOSS_ON),
  truncation: enumOf(TRUNCATIONS),
  packing: Nullable(Type.Boolean({ description: 'null: whichever is faster' })),
  cache_path: Nullable(Type.String({ description: 'Folder for tokenised data sets; may be emptied at any time' })),
})

/** First command of a training process. All paths are absolute; all values resolved, none defaulted. */
export const TrainCommand = frame('train', {
  job_id: Type.String(),
  attempt: Type.Integer(),
  experiment_name: Type.String(),
  model_path: Type.String({
    description: 'Folder: config.json, *.safetensors, tokenizer files',
  }),
  model_name: Type.String({
    description: 'As the user named it; recorded in adapter_config.json',
  }),
  dataset: DatasetSpec,
  method: enumOf(['lora', 'qlora', 'full'] as const),
  lora: Nullable(
    Type.Object({
      rank: Type.Integer(),
      alpha: Type.Number(),
      dropout: Type.Number(),
      target_modules: Type.Array(Type.String()),
      use_rslora: Type.Boolean(),
      use_dora: Type.Boolean(),
      plus_ratio: Type.Number({ description: "LoRA+: B's learning rate over A's" }),
      layers: Nullable(Type.Integer({ description: 'The last so many; null: all' })),
    }),
  ),
  epochs: Type.Integer(),
  max_steps: Nullable(Type.Integer()),
  learning_rate: Type.Number(),
  optimizer: enumOf(OPTIMIZERS),
  lr_scheduler_type: enumOf(SCHEDULES),
  warmup_ratio: Type.Number(),
  weight_decay: Type.Number(),
  max_grad_norm: Type.Number(),
  gradient_accumulation_steps: Type.Integer(),
  seed: Type.Integer(),
  eval_steps: Nullable(Type.Integer()),
  early_stopping_patience: Nullable(Type.Integer()),
  early_stopping_threshold: Type.Number(),
  load_best_model_at_end: Type.Boolean(),
  sample_prompts: Type.Array(Type.String()),
  sample_steps: Nullable(Type.Integer()),
  sample_max_tokens: Type.Integer(),
  save_steps: Nullable(Type.Integer()),
  ranks: Type.Integer(),
  memory_level: Type.Integer({ description: 'Where an earlier attempt ran out of memory: one above its level' }),
  output_dir: Type.String(),
  lease: Type.Optional(
    Nullable(
      Type.String({ description: 'What output_dir/.lease must hold for this process to write there; null: no matter' }),
    ),
  ),
  resume: Type.Boolean({
    description: 'Continue from the newest good checkpoint in output_dir, if there is one',
  }),
  told_step: Type.Optional(
    Nullable(
      Type.Integer({
        description: 'The last step known here; a run that goes on from a later one tells those between',
      }),
    ),
  ),
  told_rollbacks: Type.Optional(
    Type.Integer({
      description: 'How many returns to earlier steps are known here; the run tells again from the next on',
    }),
  ),
  initial_adapter: Type.Optional(
    Nullable(Type.String({ description: 'Folder of an adapter whose weights the run begins with; null: new ones' })),
  ),
})
export type TrainCommand = Static<typeof TrainCommand>

/** Stop: end within 5 s with a usable adapter and a checkpoint. Suspend: the same, to be continued later. */
export const StopCommand = frame('stop', {})
export const SuspendCommand = frame('suspend', {})
/** Of a training process: whether answers are being generated, to which it gives way between pieces of a step. */
export const AnsweringCommand = frame('answering', { active: Type.Boolean() })

/** A turn as chat templates take it. */
export const ChatTurn = Type.Object(
  {
    ...ChatMessage.properties,
    tool_calls: Type.Optional(Type.Array(ToolCall, { description: 'Of the assistant' })),
    tool_call_id: Type.Optional(Type.String({ description: "Of a tool's result: the call that it answers" })),
    name: Type.Optional(Type.String({ description: 'Of that tool' })),
  },
  { additionalProperties: false },
)
export type ChatTurn = Static<typeof ChatTurn>

export const GenerateCommand = frame('generate', {
  id: Type.String(),
  model_path: Type.String(),
  adapter_path: Nullable(Type.String()),
  messages: Nullable(Type.Array(ChatTurn)),
  prompt: Nullable(
    Type.String({
      description: 'Plain text to continue, when messages is null',
    }),
  ),
  max_tokens: Type.Integer(),
  temperature: Type.Number(),
  top_p: Type.Number(),
  stop: Type.Array(Type.String()),
  seed: Nullable(Type.Integer()),
  top_k: Type.Optional(Type.Integer({ description: '0: all' })),
  min_p: Type.Optional(Type.Number({ description: "Of the likeliest token's probability" })),
  repetition_penalty: Type.Optional(
    Type.Number({ description: "1: none. Over prompt and answer, as in transformers' generate" }),
  ),
  presence_penalty: Type.Optional(Type.Number({ description: 'Over the answer, as the next' })),
  frequency_penalty: Type.Optional(Type.Number()),
  logprobs: Type.Optional(
    Nullable(Type.Integer({ description: "So many of the likeliest beside each token's own; null: none" })),
  ),
  n: Type.Optional(Type.Integer({ description: 'Answers to the one prompt' })),
  tools: Type.Optional(Type.Array(ToolDescription, { description: 'Shown by the chat template, or before it' })),
  json_schema: Type.Optional(
    Nullable(Type.Record(Type.String(), Type.Unknown(), { description: 'That the answer is to keep to' })),
  ),
})
export type GenerateCommand = Static<typeof GenerateCommand>
export const CancelCommand = frame('cancel', { id: Type.String() })

export const ImportCommand = frame('import', {
  gguf_path: Type.String(),
  output_path: Type.String({
    description: 'Folder to create, by rename when complete',
  }),
})

/** Of the inspect process, one at a time. `model_path`: a folder that needs no weights. */
export const InspectCommand = frame('inspect', {
  id: Type.String(),
  model_path: Type.String(),
  dataset: DatasetSpec,
  seed: Type.Integer(),
})
export type InspectCommand = Static<typeof InspectCommand>
export const PreviewCommand = frame('preview', {
  id: Type.String(),
  model_path: Type.String(),
  dataset: DatasetSpec,
  samples: Type.Array(Type.Integer(), { description: 'Rows of the file that the user gave, from 0' }),
})
export type PreviewCommand = Static<typeof PreviewCommand>

/** Only command of an evaluate process: the loss of one model over a data set, or over its held-out share. */
export const EvaluateCommand = frame('evaluate', {
  model_path: Type.String(),
  adapter_path: Nullable(Type.String()),
  dataset: DatasetSpec,
  max_samples: Nullable(Type.Integer({ description: 'So many rows, chosen by `seed`; null: all' })),
  seed: Type.Integer(),
  memory_level: Type.Integer({ description: 'Each halves what is computed at a time' }),
})
export type EvaluateCommand = Static<typeof EvaluateCommand>

export const COMMANDS = {
  train: TrainCommand,
  stop: StopCommand,
  suspend: SuspendCommand,
  answering: AnsweringCommand,
  generate: GenerateCommand,
  cancel: CancelCommand,
  import: ImportCommand,
  inspect: InspectCommand,
  preview: PreviewCommand,
  evaluate: EvaluateCommand,
} as const
export type CommandType = keyof typeof COMMANDS
export type Command = {
  [K in CommandType]: Static<(typeof COMMANDS)[K]>
}[CommandType]

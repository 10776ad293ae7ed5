/** Every parameter of a start with its name for people, in groups. What they mean is the contract's to say. */
import { methodOf, type Values } from './values.ts'

export interface FieldInfo {
  path: string
  label: string
  unit?: string
  /** Beside what the contract says, or where it says nothing. */
  hint?: string
  /** What is taken when it is left out, where the contract has no default. */
  without?: string
  /** Texts of several lines, one a line. */
  lines?: boolean
}

export interface Group {
  id: string
  title: string
  about: string
  fields: readonly FieldInfo[]
  /** Left out: always. */
  when?: (values: Values) => boolean
}

const adapters = (values: Values) => methodOf(values) !== 'full'

export const GROUPS: readonly Group[] = [
  {
    id: 'length',
    title: 'Length and learning rate',
    about: 'How often the data are seen, and how fast the weights move',
    fields: [
      { path: 'epochs', label: 'Epochs', hint: 'Times through the data' },
      { path: 'max_steps', label: 'Steps at most', without: 'all epochs' },
      { path: 'learning_rate', label: 'Learning rate' },
      { path: 'lr_scheduler_type', label: 'Schedule' },
      { path: 'warmup_ratio', label: 'Warm-up', unit: 'share of steps' },
      { path: 'dataset.batch_size', label: 'Batch size', unit: 'rows', hint: 'Rows that are computed together' },
      {
        path: 'gradient_accumulation_steps',
        label: 'Gradient accumulation',
        unit: 'batches',
        hint: 'Batches that make one step: more rows a step without more memory',
      },
    ],
  },
  {
    id: 'lora',
    title: 'Adapter',
    about: 'What of the model is trained',
    when: adapters,
    fields: [
      { path: 'lora.lora_r', label: 'Rank' },
      { path: 'lora.lora_alpha', label: 'Alpha' },
      { path: 'lora.lora_dropout', label: 'Dropout' },
      { path: 'lora.lora_target_modules', label: 'Target modules', unit: 'one a line', lines: true },
      { path: 'lora.lora_layers', label: 'Layers', without: 'all layers' },
      { path: 'lora.use_rslora', label: 'Rank-stabilised (rsLoRA)' },
      { path: 'lora.loraplus_lr_ratio', label: 'LoRA+ ratio' },
    ],
  },
  {
    id: 'data',
    title: 'Rows and tokens',
    about: 'What is learned of each row, and what is held out',
    fields: [
      {
        path: 'dataset.max_seq_length',
        label: 'Longest row',
        unit: 'tokens',
        hint: 'Longer rows are treated as below',
      },
      { path: 'dataset.truncation', label: 'Rows that are too long' },
      { path: 'dataset.loss_on', label: 'Learn from' },
      { path: 'dataset.shuffle', label: 'Shuffle the rows in every epoch' },
      { path: 'dataset.packing', label: 'Packing', without: 'what is faster' },
      { path: 'dataset.validation_split', label: 'Hold out', unit: 'share of rows', without: 'nothing' },
      {
        path: 'dataset.validation_path',
        label: 'Held-out data set',
        hint: 'A path, or the id of an uploaded one (ds_…)',
        without: 'none',
      },
    ],
  },
  {
    id: 'reading',
    title: 'How the file is read',
    about: 'Its format and its own names for columns and roles, where they are not the usual ones',
    fields: [
      { path: 'dataset.dataset_format', label: 'Format', without: 'detected' },
      { path: 'dataset.columns.prompt', label: 'Column of the prompt' },
      { path: 'dataset.columns.query', label: 'Column of the query' },
      { path: 'dataset.columns.response', label: 'Column of the response' },
      { path: 'dataset.columns.history', label: 'Column of the history' },
      { path: 'dataset.columns.messages', label: 'Column of the messages' },
      { path: 'dataset.columns.system', label: 'Column of the system prompt' },
      { path: 'dataset.columns.tools', label: 'Column of the tools' },
      { path: 'dataset.tags.role_tag', label: 'Key of a role' },
      { path: 'dataset.tags.content_tag', label: 'Key of a text' },
      { path: 'dataset.tags.user_tag', label: 'Role of the user' },
      { path: 'dataset.tags.assistant_tag', label: 'Role of the model' },
      { path: 'dataset.tags.observation_tag', label: 'Role of a tool’s result' },
      { path: 'dataset.tags.function_tag', label: 'Role of a tool’s call' },
      { path: 'dataset.tags.system_tag', label: 'Role of the system prompt' },
    ],
  },
  {
    id: 'optimizer',
    title: 'Optimizer',
    about: 'How gradients become steps',
    fields: [
      { path: 'optimizer', label: 'Optimizer' },
      { path: 'weight_decay', label: 'Weight decay' },
      { path: 'max_grad_norm', label: 'Clip gradients at' },
      { path: 'seed', label: 'Seed', hint: 'Order of the rows, new weights and dropout follow from it' },
    ],
  },
  {
    id: 'evaluation',
    title: 'Evaluation',
    about: 'Loss over held-out rows, which “Rows and tokens” chooses',
    fields: [
      { path: 'eval_steps', label: 'Evaluate every', unit: 'steps', without: 'every epoch' },
      { path: 'early_stopping_patience', label: 'Stop early after', unit: 'evaluations', without: 'never' },
      { path: 'early_stopping_threshold', label: 'Least improvement' },
      { path: 'load_best_model_at_end', label: 'Keep the best checkpoint' },
    ],
  },
  {
    id: 'samples',
    title: 'Samples',
    about: 'Answers while it trains, the base beside the tuned model',
    fields: [
      { path: 'sample_prompts', label: 'Prompts', unit: 'one a line', lines: true, without: 'none' },
      { path: 'sample_steps', label: 'Answer every', unit: 'steps', without: 'every epoch' },
      { path: 'sample_max_tokens', label: 'Longest answer', unit: 'tokens' },
    ],
  },
  {
    id: 'place',
    title: 'Place and queue',
    about: 'Where it is kept, when its turn comes, what it begins with',
    fields: [
      { path: 'resume_from', label: 'Continue from', without: 'new weights' },
      { path: 'output_dir', label: 'Output folder', without: './outputs/NAME' },
      { path: 'save_steps', label: 'Checkpoint every', unit: 'steps', without: 'about a minute' },
      { path: 'priority', label: 'Priority' },
      { path: 'tags', label: 'Tags', unit: 'one a line', lines: true, without: 'none' },
      { path: 'ranks', label: 'Processes' },
      { path: 'overwrite', label: 'Replace an ended experiment of this name' },
    ],
  },
]

/** Those that have their place elsewhere on the page: name, model, data, method. */
export const ELSEWHERE = [
  'experiment_name',
  'model_name',
  'dataset.dataset_path',
  'lora.use_lora',
  'lora.use_qlora',
  'lora.use_dora',
] as const

/** What values of choices are called. */
export const CHOICES: Record<string, string> = {
  linear: 'Falls in a straight line',
  cosine: 'Falls along a cosine',
  constant: 'Stays',
  completions: 'All answers',
  last_completion: 'The last answer',
  all: 'Every token',
  truncate: 'Cut',
  drop: 'Left out',
  error: 'An error',
  adamw: 'AdamW',
  adam: 'Adam',
  sgd: 'SGD with momentum',
  adafactor: 'Adafactor',
  muon: 'Muon',
  lion: 'Lion',
  alpaca: 'Alpaca',
  sharegpt: 'ShareGPT',
  openai: 'OpenAI messages',
  prompt_completion: 'Prompt and completion',
  text: 'Plain text',
}

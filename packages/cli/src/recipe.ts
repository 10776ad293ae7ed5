/** What to train: a recipe file, flags over it, and `--set field=value` for what has no flag. */
import { existsSync, readFileSync } from 'node:fs'
import type { StartInput } from '@mlx-training/sdk'
import { parse, YAMLParseError } from 'yaml'
import { Stop } from './exit.ts'

export interface TrainFlags {
  name?: string
  model?: string
  data?: string
  validation?: string
  method?: Method
  rank?: number
  alpha?: number
  epochs?: number
  maxSteps?: number
  lr?: number
  batchSize?: number
  maxSeqLength?: number
  resumeFrom?: string
  overwrite?: boolean
  tag?: string[]
  set?: string[]
}

export const METHODS = ['lora', 'qlora', 'dora', 'full'] as const
export type Method = (typeof METHODS)[number]

const BY_METHOD: Record<Method, Record<string, boolean>> = {
  lora: { use_lora: true },
  qlora: { use_qlora: true },
  dora: { use_lora: true, use_dora: true },
  full: { use_lora: false, use_qlora: false },
}

type Tree = Record<string, unknown>

/** The request, not checked yet: the server knows its fields. Throws Stop for what makes no request at all. */
export function requestOf(recipe: string | undefined, flags: TrainFlags): StartInput {
  const request: Tree = recipe === undefined ? {} : readRecipe(recipe)
  const put = (path: string, value: unknown) => value !== undefined && setAt(request, path.split('.'), value)
  put('experiment_name', flags.name)
  put('model_name', flags.model)
  put('dataset.dataset_path', flags.data)
  put('dataset.validation_path', flags.validation)
  put('epochs', flags.epochs)
  put('max_steps', flags.maxSteps)
  put('learning_rate', flags.lr)
  put('dataset.batch_size', flags.batchSize)
  put('dataset.max_seq_length', flags.maxSeqLength)
  for (const [field, value] of Object.entries(flags.method ? BY_METHOD[flags.method] : {})) put(`lora.${field}`, value)
  put('lora.lora_r', flags.rank)
  put('lora.lora_alpha', flags.alpha)
  put('resume_from', flags.resumeFrom)
  put('overwrite', flags.overwrite)
  put('tags', flags.tag)
  for (const assignment of flags.set ?? []) {
    const at = assignment.indexOf('=')
    if (at < 1) throw new Stop(`--set ${assignment}: write field=value, e.g. --set lora.lora_dropout=0.05`)
    put(assignment.slice(0, at), parsed(assignment.slice(at + 1)))
  }
  const dataset = request.dataset as Tree | undefined
  if (typeof request.model_name !== 'string')
    throw new Stop('Name a model: --model SmolLM2-135M-Instruct, or in a recipe')
  if (typeof dataset?.dataset_path !== 'string') throw new Stop('Name the data: --data file.jsonl, or in a recipe')
  if (typeof request.experiment_name !== 'string') request.experiment_name = nameOf(request.model_name)
  return request as unknown as StartInput
}

function readRecipe(path: string): Tree {
  if (!existsSync(path)) throw new Stop(`${path}: there is no such recipe`)
  try {
    // Anchors that refer to each other a billion times are refused by the library's own limit.
    const recipe: unknown = parse(readFileSync(path, 'utf8'))
    if (typeof recipe === 'object' && recipe !== null && !Array.isArray(recipe)) return recipe as Tree
    throw new Stop(`${path}: a recipe has fields, as the body of POST /train/start`)
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error
    throw new Stop(`${path}: ${error.message.split('\n')[0]}`)
  }
}

function setAt(tree: Tree, [key, ...rest]: string[], value: unknown): void {
  if (key === undefined) return
  if (rest.length === 0) {
    tree[key] = value
    return
  }
  if (!Object.hasOwn(tree, key) || typeof tree[key] !== 'object' || tree[key] === null) tree[key] = {}
  setAt(tree[key] as Tree, rest, value)
}

/** JSON where it is JSON (numbers, true, lists), otherwise the text. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** e.g. SmolLM2-135M-Instruct-1128-2104. */
function nameOf(model: string, now = new Date()): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const base = (model.split(/[/\\]/).at(-1) ?? '').replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '')
  const stamp = `${two(now.getMonth() + 1)}${two(now.getDate())}-${two(now.getHours())}${two(now.getMinutes())}`
  return `${(base || 'run').slice(0, 80)}-${stamp}`
}

import { type LoraParams, ServiceError, type StartRequest } from '@mlx-training/contract'
import { closest } from '../files/closest.ts'
import { readWeights } from '../models/weights.ts'

const ALL_LINEAR = 'all-linear'

/** Names that every architecture of mlx-lm keeps when all linears of a file's layers have one of them. */
const LLAMA = new Set(['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'])

interface Linears {
  /** Names within their layer, e.g. self_attn.q_proj. */
  inside: Set<string>
  /** Whole names. */
  outside: Set<string>
  layers: number
  /** Whether the engine's modules are named like that as well. */
  certain: boolean
}

/**
 * Refuses lora_target_modules and lora_layers that a local model has not, before anything is queued; what its files leave
 * open is for the engine, which tells the same once it has loaded the model. ServiceError('invalid_parameters').
 */
export async function checkTargets(
  { lora, model_name }: Pick<StartRequest, 'lora' | 'model_name'>,
  folder: string,
): Promise<void> {
  const linears = await linearsOf(folder)
  if (linears.layers === 0) return
  if (lora.lora_layers !== undefined && lora.lora_layers > linears.layers)
    throw refusal('lora.lora_layers', `is ${lora.lora_layers}, but ${model_name} has ${linears.layers} layers`)
  if (!linears.certain) return
  const unknown = lora.lora_target_modules.filter((target) => target !== ALL_LINEAR && !isNamed(target, linears))
  if (unknown.length === 0) return
  const names = [...new Set([...linears.inside].map(lastPart))].sort()
  const guesses = unknown.map((target) => {
    const guess = closest(lastPart(target), [...names, ALL_LINEAR])
    return JSON.stringify(target) + (guess ? ` (did you mean ${guess}?)` : '')
  })
  throw refusal(
    'lora.lora_target_modules',
    `has ${guesses.join(', ')}, but no linear layer of ${model_name} is named so; there are ${names.join(', ')}, ` +
      `or ["${ALL_LINEAR}"] for every one of them`,
  )
}

function isNamed(target: string, { inside, outside }: Linears): boolean {
  return [...inside, ...outside].some((name) => endsAs(name, target))
}

/** By the last parts of its name: of q_proj, self_attn.q_proj. */
const endsAs = (name: string, target: string) => name === target || name.endsWith(`.${target}`)

/** Whether a tensor of a model's files is the weight of a layer that is adapted; too many rather than too few. */
export function isTarget(tensor: string, shape: number[], { lora_target_modules: targets }: LoraParams): boolean {
  const [, layer, name] = /^(?:.*?\.(\d+)\.)?(.+)\.weight$/.exec(tensor) ?? []
  if (name === undefined || shape.length < 2) return false
  return targets.some((target) => (target === ALL_LINEAR ? layer !== undefined : endsAs(name, target)))
}

async function linearsOf(folder: string): Promise<Linears> {
  const { tensors, native } = await readWeights(folder)
  const found: Linears = { inside: new Set(), outside: new Set(), layers: 0, certain: native }
  for (const [tensor, { shape }] of Object.entries(tensors)) {
    const [, before, index, within] = /^(?:(.*?)\.(\d+)\.)?(.+)\.weight$/.exec(tensor) ?? []
    // A stack of experts has three dimensions, and so has a convolution, which can't be adapted.
    if (within === undefined || shape.length < 2 || (shape.length > 2 && /conv/.test(within))) continue
    if (before === undefined) found.outside.add(within)
    else {
      found.inside.add(within)
      found.layers = Math.max(found.layers, Number(index) + 1)
    }
  }
  found.certain ||= [...found.inside].every((name) => LLAMA.has(lastPart(name)))
  return found
}

const lastPart = (name: string) => name.slice(name.lastIndexOf('.') + 1)

function refusal(field: string, message: string): ServiceError {
  return new ServiceError('invalid_parameters', `${field} ${message}`, { errors: [{ field, message }] })
}

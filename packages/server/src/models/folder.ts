import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readHeader } from './safetensors.ts'

/** What a folder of the form that mlx-lm loads says about itself. */
export interface ModelFolder {
  /** `model_type` of config.json. */
  architecture: string
  /** e.g. `4-bit`; null for plain weights. */
  quantization: string | null
  /** Of all files at its top level. */
  sizeBytes: number
}

/** Why a folder can't be used, as a clause that follows the folder's name. */
export class UnusableModel extends Error {}

const INDEX = 'model.safetensors.index.json'
const TOKENIZER = /^(tokenizer\.json|tokenizer\.model|vocab\.json|.+\.tiktoken)$/
/** Above every tokenizer.json and index that there is; config.json takes a few kB. */
export const MAX_JSON = 32 * 1024 * 1024

/** The names that mlx-lm reads weights from: `model*.safetensors`. */
export const isWeights = (name: string): boolean => /^model.*\.safetensors$/.test(name)

type Json = Record<string, unknown>

/** Throws UnusableModel when config.json or tokenizer_config.json asks for code of the model's own to be run (`auto_map`,
 *  `model_file`: mlx-lm's CVE-2026-5843, LLaMA-Factory's CVE-2026-58116) or names no plain `model_type`, which the engine
 *  uses as the name of a Python module. */
export function checkConfig(
  config: Json,
  tokenizerConfig: Json = {},
): { architecture: string; quantization: string | null } {
  for (const [file, json] of [
    ['config.json', config],
    ['tokenizer_config.json', tokenizerConfig],
  ] as const)
    for (const key of ['auto_map', 'model_file'])
      if (json[key] != null)
        throw new UnusableModel(
          `needs code of its own to be run ("${key}" in ${file}), which is never done; use a variant without it`,
        )
  const type = config.model_type
  if (typeof type !== 'string' || !/^\w[\w-]{0,99}$/.test(type))
    throw new UnusableModel('has no usable "model_type" in its config.json')
  return { architecture: type, quantization: quantizationOf(config) }
}

/** checkConfig on a folder's files. Throws UnusableModel. */
export async function readConfig(path: string): Promise<ReturnType<typeof checkConfig>> {
  const tokenizer = await stat(join(path, 'tokenizer_config.json')).catch(() => null)
  return checkConfig(
    await readJson(path, 'config.json'),
    tokenizer ? await readJson(path, 'tokenizer_config.json') : {},
  )
}

/** Reads and checks a model's folder: plain configuration, all of its safetensors, a tokenizer. Throws UnusableModel. */
export async function readModelFolder(path: string): Promise<ModelFolder> {
  const names = await readdir(path).catch(() => {
    throw new UnusableModel('is not a readable folder')
  })
  if (!names.includes('config.json')) throw new UnusableModel(withoutConfig(names))
  const described = await readConfig(path)
  await checkWeights(path, names)
  for (const name of names.filter(isWeights))
    await readHeader(join(path, name)).catch(() => {
      throw new UnusableModel(`has a damaged or incomplete ${name}; copy or download it again`)
    })
  await checkTokenizer(path, names)
  return { ...described, sizeBytes: await folderSize(path, names) }
}

/** Throws UnusableModel. */
export async function checkTokenizer(path: string, names?: string[]): Promise<void> {
  if (!(names ?? (await readdir(path))).some((name) => TOKENIZER.test(name)))
    throw new UnusableModel('has no tokenizer (tokenizer.json or tokenizer.model)')
}

export async function folderSize(path: string, names?: string[]): Promise<number> {
  let bytes = 0
  for (const name of names ?? (await readdir(path))) {
    const info = await stat(join(path, name)).catch(() => null)
    if (info?.isFile()) bytes += info.size
  }
  return bytes
}

async function checkWeights(path: string, names: string[]): Promise<void> {
  const weights = names.filter(isWeights)
  if (!weights.length) throw new UnusableModel(withoutWeights(names))
  const indexed = names.includes(INDEX) ? Object.values((await readJson(path, INDEX)).weight_map ?? {}) : []
  for (const name of [...new Set([...indexed, ...weights.flatMap(shards)])])
    if (typeof name !== 'string' || !(await stat(join(path, name)).catch(() => null))?.isFile())
      throw new UnusableModel(`lacks its weights file ${JSON.stringify(name)}; copy or download it again`)
}

/** `model-00001-of-00003.safetensors` → all three names. */
function shards(name: string): string[] {
  const match = /^(model.*-)\d{5}-of-(\d{5})(\.safetensors)$/.exec(name)
  if (!match) return [name]
  const [, before, count, after] = match
  return Array.from(
    { length: Number(count) },
    (_, i) => `${before}${String(i + 1).padStart(5, '0')}-of-${count}${after}`,
  )
}

export function withoutConfig(names: string[]): string {
  if (names.includes('adapters.safetensors') || names.includes('adapter_model.safetensors'))
    return 'holds an adapter, not a model: name the model that it was trained on'
  if (names.some((name) => /\.gguf$/i.test(name))) return 'holds a GGUF file: give the path of that file'
  return 'has no config.json'
}

export function withoutWeights(names: string[]): string {
  const pickled = names.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name))
  return pickled
    ? `has only pickled weights (${pickled}), which can run code when loaded: convert it with "mlx_lm.convert --hf-path FOLDER"`
    : 'has no weights named model*.safetensors'
}

/** MLX writes `quantization: {bits, group_size}`; others `quantization_config: {bits | quant_method}`. */
function quantizationOf(config: Json): string | null {
  const given = (config.quantization ?? config.quantization_config) as Json | null | undefined
  if (!given || typeof given !== 'object') return null
  if (typeof given.bits === 'number') return `${given.bits}-bit`
  return typeof given.quant_method === 'string' ? given.quant_method : 'quantized'
}

async function readJson(folder: string, name: string): Promise<Json> {
  const path = join(folder, name)
  const info = await stat(path).catch(() => null)
  if (!info?.isFile() || info.size > MAX_JSON) throw new UnusableModel(`has a ${name} that can't be read`)
  try {
    const json: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (json && typeof json === 'object' && !Array.isArray(json)) return json as Json
  } catch {}
  throw new UnusableModel(`has a ${name} that is not a JSON object`)
}

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StartRequest } from '@mlx-training/contract'
import { Value } from 'typebox/value'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Stop } from '../src/exit.ts'
import { requestOf } from '../src/recipe.ts'

const RECIPES = fileURLToPath(new URL('../../../recipes/', import.meta.url))
let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'recipes-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function recipe(text: string): string {
  const path = join(folder, 'recipe.yaml')
  writeFileSync(path, text)
  return path
}

describe('a request', () => {
  it('is made of the recipe, with flags over it', () => {
    const path = recipe(
      'model_name: m\nepochs: 2\nlora: {use_lora: true, lora_r: 4}\ndataset:\n  dataset_path: d.json\n',
    )
    expect(
      requestOf(path, { name: 'n', epochs: 5, rank: 8, set: ['lora.lora_dropout=0.05', 'lr_scheduler_type=cosine'] }),
    ).toEqual({
      experiment_name: 'n',
      model_name: 'm',
      epochs: 5,
      lora: { use_lora: true, lora_r: 8, lora_dropout: 0.05 },
      dataset: { dataset_path: 'd.json' },
      lr_scheduler_type: 'cosine',
    })
  })

  it('has the tags of the recipe, or those of the flags instead', () => {
    const path = recipe('model_name: m\ntags: [of the recipe]\ndataset: {dataset_path: d.json}\n')
    expect(requestOf(path, {}).tags).toEqual(['of the recipe'])
    expect(requestOf(path, { tag: ['a', 'b'] }).tags).toEqual(['a', 'b'])
  })

  it('needs no recipe, and makes up a name that the service takes', () => {
    const request = requestOf(undefined, { model: 'org/My Model@v1', data: 'd.json', method: 'qlora' })
    expect(request).toMatchObject({ model_name: 'org/My Model@v1', lora: { use_qlora: true } })
    expect(request.experiment_name).toMatch(/^My-Model-v1-\d{4}-\d{4}$/)
  })

  it.each([
    ['no model', { data: 'd' }, /^Name a model/],
    ['no data', { model: 'm' }, /^Name the data/],
    ['half an assignment', { model: 'm', data: 'd', set: ['epochs'] }, /^--set epochs: write field=value/],
  ])('%s is told', (_, flags, message) => {
    expect(() => requestOf(undefined, flags)).toThrow(message)
    expect(() => requestOf(undefined, flags)).toThrow(Stop)
  })

  it.each([
    ['- a list', /has fields/],
    ['a: [1', /Flow sequence|expected/],
    ['just text', /has fields/],
  ])('a recipe that is none is told: %s', (text, message) => {
    expect(() => requestOf(recipe(text), {})).toThrow(message)
  })

  it('that is not there is told, and never touches prototypes', () => {
    expect(() => requestOf('nowhere.yaml', {})).toThrow('nowhere.yaml: there is no such recipe')
    requestOf(undefined, { model: 'm', data: 'd', set: ['__proto__.polluted=1', 'constructor.prototype.polluted=1'] })
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })
})

it.each(readdirSync(RECIPES))('%s is a request that the service takes', (file) => {
  const request = requestOf(join(RECIPES, file), { name: 'n' })
  const whole = Value.Default(StartRequest, structuredClone(request))
  expect([...Value.Errors(StartRequest, whole)]).toEqual([])
})

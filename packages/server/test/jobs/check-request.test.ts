import { ServiceError, StartRequest } from '@mlx-training/contract'
import fc from 'fast-check'
import { Value } from 'typebox/value'
import { describe, expect, it } from 'vitest'
import { checkRequest } from '../../src/jobs/check-request.ts'

/** With every default filled in, as a handler gets it. */
const request = (change: { lora?: object; dataset?: object; [field: string]: unknown }) =>
  Value.Default(StartRequest, {
    experiment_name: 'x',
    model_name: 'm',
    ...change,
    lora: { use_lora: true, ...change.lora },
    dataset: { dataset_path: 'd', ...change.dataset },
  }) as StartRequest

function problemsOf(change: Parameters<typeof request>[0]): ServiceError {
  try {
    checkRequest(request(change))
  } catch (error) {
    if (error instanceof ServiceError) return error
  }
  throw new Error('it was accepted')
}
const fieldsOf = (change: Parameters<typeof request>[0]) => problemsOf(change).errors?.map(({ field }) => field)

const split = { validation_split: 0.1 }
const file = { validation_path: 'v' }

describe('fields that go together', () => {
  it.each([
    ['defaults', {}],
    ['a split', { dataset: split, eval_steps: 10, early_stopping_patience: 2 }],
    ['a file', { dataset: file, eval_steps: 10, early_stopping_patience: 2 }],
    [
      'LoRA with all of its fields',
      { lora: { use_rslora: true, use_dora: true, loraplus_lr_ratio: 16, lora_layers: 4 } },
    ],
    ['QLoRA as well', { lora: { use_lora: false, use_qlora: true, use_dora: true } }],
    ['full fine-tuning that leaves them alone', { lora: { use_lora: false } }],
  ])('%s', (_, change) => {
    expect(() => checkRequest(request(change))).not.toThrow()
  })
})

describe("fields that don't", () => {
  it('what is about samples or early stopping, without them', () => {
    expect(fieldsOf({ sample_steps: 5 })).toEqual(['sample_steps'])
    expect(fieldsOf({ early_stopping_threshold: 0.1 })).toEqual(['early_stopping_threshold'])
    const both = { sample_prompts: ['Hi'], sample_steps: 5, dataset: split, early_stopping_patience: 1 }
    expect(() => checkRequest(request({ ...both, early_stopping_threshold: 0.1 }))).not.toThrow()
  })

  it('two validation sets', () => {
    const error = problemsOf({ dataset: { ...split, ...file } })
    expect(error.code).toBe('invalid_parameters')
    expect(error.message).toMatch(
      /^dataset\.validation_split holds out .* validation_path names .*: leave one of them out$/,
    )
    expect(fieldsOf({ dataset: { ...split, ...file } })).toEqual(['dataset.validation_split'])
  })

  it('evaluation without rows to evaluate on', () => {
    expect(fieldsOf({ eval_steps: 5 })).toEqual(['eval_steps'])
    expect(fieldsOf({ eval_steps: 5, early_stopping_patience: 1 })).toEqual(['eval_steps', 'early_stopping_patience'])
    expect(problemsOf({ eval_steps: 5 }).message).toMatch(
      /^eval_steps needs held-out rows: give dataset\.validation_split/,
    )
  })

  it('any of the LoRA options without LoRA, and all that is wrong at once', () => {
    const options = { use_rslora: true, use_dora: true, loraplus_lr_ratio: 2, lora_layers: 1 }
    fc.assert(
      fc.property(fc.subarray(Object.keys(options) as (keyof typeof options)[], { minLength: 1 }), (names) => {
        const lora = Object.fromEntries(names.map((name) => [name, options[name]]))
        expect(fieldsOf({ eval_steps: 1, lora: { use_lora: false, ...lora } })).toEqual([
          'eval_steps',
          ...names.map((name) => `lora.${name}`),
        ])
      }),
    )
  })
})

import { type EstimateRequest, type FieldError, ServiceError, type StartRequest } from '@mlx-training/contract'

type Request = StartRequest | EstimateRequest
type Rule = (request: Request) => FieldError[]

/** Refuses fields that don't go together, all of them at once. ServiceError('invalid_parameters'). */
export function checkRequest(request: Request): void {
  const errors = RULES.flatMap((rule) => rule(request))
  if (errors.length > 0)
    throw new ServiceError('invalid_parameters', errors.map(({ field, message }) => `${field} ${message}`).join('; '), {
      errors,
    })
}

const RULES: readonly Rule[] = [
  oneValidationSet,
  evaluationNeedsRows,
  thresholdNeedsPatience,
  samplesNeedPrompts,
  loraFieldsNeedLora,
]

function oneValidationSet({ dataset }: Request): FieldError[] {
  if (dataset.validation_path === undefined || dataset.validation_split === undefined) return []
  return [
    {
      field: 'dataset.validation_split',
      message:
        'holds out rows of dataset_path, but validation_path names the held-out rows already: leave one of them out',
    },
  ]
}

function evaluationNeedsRows({ dataset, ...request }: Request): FieldError[] {
  if (dataset.validation_path !== undefined || dataset.validation_split !== undefined) return []
  return (['eval_steps', 'early_stopping_patience'] as const)
    .filter((field) => request[field] !== undefined)
    .map((field) => ({
      field,
      message: 'needs held-out rows: give dataset.validation_split (0.1, say) or dataset.validation_path',
    }))
}

function thresholdNeedsPatience({ early_stopping_threshold: threshold, early_stopping_patience: patience }: Request) {
  if (threshold === 0 || patience !== undefined) return []
  return [
    { field: 'early_stopping_threshold', message: 'needs early_stopping_patience: after how many evaluations to end' },
  ]
}

function samplesNeedPrompts({ sample_prompts, sample_steps }: Request): FieldError[] {
  if (sample_steps === undefined || sample_prompts.length > 0) return []
  return [{ field: 'sample_steps', message: 'needs sample_prompts: what to ask' }]
}

function loraFieldsNeedLora({ lora }: Request): FieldError[] {
  if (lora.use_lora || lora.use_qlora) return []
  const given = {
    use_rslora: lora.use_rslora,
    use_dora: lora.use_dora,
    loraplus_lr_ratio: lora.loraplus_lr_ratio !== 1,
    lora_layers: lora.lora_layers !== undefined,
  }
  return Object.entries(given)
    .filter(([, isGiven]) => isGiven)
    .map(([field]) => ({
      field: `lora.${field}`,
      message: 'is about LoRA, which is off: set lora.use_lora or lora.use_qlora to true',
    }))
}

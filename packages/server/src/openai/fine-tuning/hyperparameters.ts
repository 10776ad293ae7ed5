/** OpenAI's three hyperparameters: what "auto" is, and what they are of a job, whoever has started it. */
import type { FineTuningHyperparameters, FineTuningJob } from '@mlx-training/contract'
import type { Job, JobPlan } from '../../jobs/port.ts'

type Method = JobPlan['method']
type Told = FineTuningJob['hyperparameters']

/** Learning rates that a multiplier of 1 stands for: good first tries with adamw (docs/training.md). */
const RATES: Record<Method, number> = { lora: 2e-4, qlora: 2e-4, full: 2e-5 }

/** As OpenAI's cookbook says that theirs is chosen (chat_finetuning_data_prep): 3, but more where rows times epochs would be
 *  under 100, and fewer where they would be over 25,000. */
const EPOCHS = { usual: 3, most: 25, fewestRows: 100, mostRows: 25_000 }

function autoEpochs(rows: number): number {
  const { usual, most, fewestRows, mostRows } = EPOCHS
  if (rows * usual < fewestRows) return Math.min(most, Math.floor(fewestRows / rows))
  if (rows * usual > mostRows) return Math.max(1, Math.floor(mostRows / rows))
  return usual
}

/** Small ones learn most of few rows; large ones save time where there are many. */
const autoBatch = (rows: number): number => Math.min(rows, rows < 4000 ? 4 : rows < 8000 ? 8 : 16)

/** `rows` of the training file, at least one. */
export function chosen(asked: FineTuningHyperparameters, rows: number, method: Method) {
  const { n_epochs, batch_size, learning_rate_multiplier } = asked
  return {
    epochs: isNumber(n_epochs) ? n_epochs : autoEpochs(rows),
    batchSize: isNumber(batch_size) ? batch_size : autoBatch(rows),
    learningRate: exact(RATES[method] * (isNumber(learning_rate_multiplier) ? learning_rate_multiplier : 1)),
  }
}

const isNumber = (value: 'auto' | number | null | undefined): value is number => typeof value === 'number'

export const hyperparametersOf = ({ request, plan }: Job): Told => ({
  n_epochs: request.epochs,
  batch_size: request.dataset.batch_size * request.gradient_accumulation_steps,
  learning_rate_multiplier: exact(request.learning_rate / RATES[plan.method]),
})

/** Without what binary fractions leave: 0.1 × 2e-4 is 2e-5, and back. */
const exact = (value: number) => Number(value.toPrecision(12))

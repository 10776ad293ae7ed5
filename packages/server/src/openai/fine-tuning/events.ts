/** One line of a job's history as OpenAI tells it: each event is one of theirs, so that pages are pages of ours. */
import type { EventType, FineTuningEvent, JobEvent } from '@mlx-training/contract'
import type { Job } from '../../jobs/port.ts'
import { fineTunedName } from '../../models/names.ts'
import { eventId, unixSeconds } from './ids.ts'

type Data = JobEvent['data']
type Line = Pick<FineTuningEvent, 'message'> & Partial<Pick<FineTuningEvent, 'level' | 'type' | 'data'>>

export function fineTuningEvent(job: Job, { id, type, at, data }: JobEvent): FineTuningEvent {
  return {
    id: eventId(job.id, id),
    object: 'fine_tuning.job.event',
    created_at: unixSeconds(at),
    level: 'info',
    type: 'message',
    data,
    ...LINES[type](data, job),
  }
}

const LINES: Record<EventType, (data: Data, job: Job) => Line> = {
  state: (data) => stateLine(String(data.state), data.reason),
  stage: ({ stage, done, total }) => {
    const of = Number(total) > 0 ? ` (${done} of ${total})` : ''
    return { message: `Preparing: ${String(stage).replaceAll('_', ' ')}${of}` }
  },
  prepared: ({ samples, tokens, total_steps }) => ({
    message: `Files are fine: ${samples} rows, ${tokens} tokens an epoch, ${total_steps} steps`,
  }),
  step: (data, { progress: { prepared } }) => ({
    message: `Step ${data.step}${prepared ? `/${prepared.total_steps}` : ''}: training loss=${rounded(data.loss)}`,
    type: 'metrics',
    data: {
      ...data,
      total_steps: prepared?.total_steps ?? null,
      train_loss: data.loss,
      train_mean_token_accuracy: null,
    },
  }),
  eval: (data) => ({
    message: `Step ${data.step}: full validation loss=${rounded(data.loss)}`,
    type: 'metrics',
    data: {
      ...data,
      valid_loss: data.loss,
      valid_mean_token_accuracy: data.token_accuracy,
      full_valid_loss: data.loss,
      full_valid_mean_token_accuracy: data.token_accuracy,
    },
  }),
  sample: ({ step, prompt, tuned }) => ({ message: `Step ${step}: asked "${prompt}", it answers "${tuned}"` }),
  checkpoint: ({ step, model }) => ({ message: `Checkpoint created at step ${step}: ${model}` }),
  rollback: warning,
  memory: warning,
  warning,
  verified: (data) => ({ message: String(data.message), level: data.ok ? 'info' : 'warn' }),
  log: ({ lines }) => ({ message: [lines].flat().join('\n'), level: 'warn' }),
  end: ({ state }, job) => ({
    message: state === 'completed' ? `New fine-tuned model created: ${fineTunedName(job.name)}` : `The job is over`,
  }),
}

function warning({ message }: Data): Line {
  return { message: String(message), level: 'warn' }
}

const STATES: Record<string, string> = {
  queued: 'Fine-tuning job is queued',
  preparing: 'Validating training file',
  running: 'Fine-tuning job started',
  stopping: 'Fine-tuning job is being cancelled',
  stopped: 'Fine-tuning job was cancelled',
  paused: 'Fine-tuning job is paused',
  completed: 'The job has successfully completed',
  failed: 'The job failed',
}

function stateLine(state: string, reason: unknown): Line {
  const why = typeof reason === 'string' && reason !== '' ? `: ${reason}` : ''
  // Back in the queue by itself: something went wrong.
  const level = state === 'failed' ? 'error' : state === 'queued' && why !== '' ? 'warn' : 'info'
  return { message: `${STATES[state] ?? state}${why}`, level }
}

const rounded = (loss: unknown) => (typeof loss === 'number' ? loss.toPrecision(4) : 'none (skipped)')

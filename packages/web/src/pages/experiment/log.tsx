import type { EventType, JobEvent } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Badge, type Tone } from '../../components/badge.tsx'
import { Card } from '../../components/facts.tsx'
import { Checkbox } from '../../components/field.tsx'
import { EmptyState, Skeleton } from '../../components/states.tsx'
import { count, moment, number } from '../../format.ts'
import type { Run } from '../../live/run.ts'

/** Newest first; more of a long history on request, so that the page stays light. */
const PAGE = 100

export function Log({ run }: { run: Run }) {
  void run.version.value
  const [logs, setLogs] = useState(true)
  const [shown, setShown] = useState(PAGE)
  const all = run.data.events
  // Of a stage that counts, the last word is enough.
  const events = all.filter((event, i) => {
    const next = all[i + 1]
    if (event.type === 'stage' && next?.type === 'stage' && next.data.stage === event.data.stage) return false
    return logs || event.type !== 'log'
  })
  return (
    <Card title="What happened" actions={<Checkbox label="The engine’s log lines" checked={logs} onChange={setLogs} />}>
      {events.length === 0 ? (
        run.complete.value ? (
          <EmptyState title="Nothing has happened yet" />
        ) : (
          <Skeleton lines={8} />
        )
      ) : (
        <>
          <ol class="log">
            {events
              .slice(-shown)
              .reverse()
              .map((event) => (
                <li key={event.id}>
                  <time dateTime={event.at}>{moment(event.at)}</time>
                  <span>
                    <Badge tone={toneOf(event)}>{event.type}</Badge>
                  </span>
                  <span>{told(event)}</span>
                </li>
              ))}
          </ol>
          {events.length > shown && (
            <button type="button" class="button ghost" onClick={() => setShown(shown + 5 * PAGE)}>
              Show more of {count(events.length)}
            </button>
          )}
        </>
      )}
    </Card>
  )
}

const TONES: Partial<Record<EventType, Tone>> = {
  warning: 'warning',
  rollback: 'warning',
  memory: 'warning',
  checkpoint: 'good',
  verified: 'good',
  eval: 'info',
  sample: 'info',
}

function toneOf({ type, data }: JobEvent): Tone {
  if ((type === 'end' || type === 'state') && data.state === 'failed') return 'bad'
  if (type === 'verified' && data.ok === false) return 'bad'
  if (type === 'end' && data.state === 'completed') return 'good'
  return TONES[type] ?? 'neutral'
}

function told({ type, data }: JobEvent): string {
  const value = (name: string) => number(data[name] as number | null)
  const text = String(data.message ?? data.reason ?? data.text ?? data.line ?? '')
  switch (type) {
    case 'state':
      return `${data.state}${text ? `: ${text}` : ''}`
    case 'end':
      return `${data.state}${text ? `: ${text}` : ''}`
    case 'stage':
      return `${String(data.stage).replaceAll('_', ' ')}${data.total ? `, ${count(data.done as number)} of ${count(data.total as number)}` : ''}`
    case 'prepared':
      return `${count(data.total_steps as number)} steps over ${count(data.samples as number)} rows; ${count(data.trainable_params as number)} of ${count(data.total_params as number)} parameters train`
    case 'eval':
      return `after step ${count(data.step as number)}: loss ${value('loss')}, perplexity ${value('perplexity')}${data.best ? ', the best so far' : ''}`
    case 'checkpoint':
      return `after step ${count(data.step as number)}${data.best ? ', the best so far' : ''}`
    case 'sample':
      return `after step ${count(data.step as number)}: ${data.prompt}`
    default:
      return text || JSON.stringify(data)
  }
}

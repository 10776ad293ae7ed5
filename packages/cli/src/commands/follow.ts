/** watch and logs: a job as it goes on. Ctrl-C leaves it running. */
import type { JobEvent, StatusResponse } from '@mlx-training/sdk'
import logUpdate from 'log-update'
import { EXIT, Stop } from '../exit.ts'
import pc from '../screen/colours.ts'
import { count, duration, loss } from '../screen/format.ts'
import { LiveView } from '../screen/live-view.ts'
import { note, say } from '../screen/print.ts'
import { state } from '../screen/state.ts'
import type { Session } from '../session.ts'

/** Shows a job until it ends; a picture where there is a terminal, otherwise a line an event. Throws Stop when it failed. */
export async function watch(session: Session, name: string): Promise<void> {
  const { client, json } = session
  const first = await client.train.status(name)
  const live = process.stdout.isTTY && !json
  const view = live ? new LiveView(first) : null
  const abort = new AbortController()
  const interrupt = () => abort.abort(new Stop(comeBack(name), EXIT.interrupted))
  // Not `once`: log-update looks whether anybody else listens, and would end the process itself.
  process.on('SIGINT', interrupt)
  // A terminal is drawn at most so often: a tiny model makes a hundred steps a second.
  const clock = view && setInterval(() => logUpdate(view.draw(process.stdout.columns ?? 80)), 200)
  try {
    const ended = await client.train.wait(name, {
      signal: abort.signal,
      onEvent: (event) => {
        if (json) process.stdout.write(`${JSON.stringify(event)}\n`)
        else if (view) view.take(event)
        else for (const text of linesOf(event)) say(text)
      },
    })
    if (view) logUpdate(view.ended(ended, process.stdout.columns ?? 80))
    conclude(ended, json)
  } finally {
    if (clock) clearInterval(clock)
    if (view) logUpdate.done()
    process.off('SIGINT', interrupt)
  }
}

/** The history as lines, and with `follow` what comes. */
export async function logs({ client, json }: Session, name: string, { follow }: { follow?: boolean }): Promise<void> {
  // An ended job's stream ends by itself; of another one only what is there is asked for.
  const { status, ...job } = await client.train.status(name)
  const ended = ['completed', 'failed', 'stopped'].includes(status)
  const abort = new AbortController()
  const done = new Error('all is told')
  let quiet: NodeJS.Timeout | undefined
  const rest = () => {
    if (ended || follow) return
    clearTimeout(quiet)
    quiet = setTimeout(() => abort.abort(done), 300)
  }
  rest()
  try {
    for await (const event of client.train.events(job.experiment_name, { signal: abort.signal })) {
      rest()
      if (json) process.stdout.write(`${JSON.stringify(event)}\n`)
      else for (const text of linesOf(event)) say(text)
    }
  } catch (error) {
    if (error !== done) throw error
  } finally {
    clearTimeout(quiet)
  }
}

function conclude({ experiment_name: name, status, reason, checkpoints }: StatusResponse, json: boolean): void {
  if (status === 'failed') throw new Stop(`${name} failed: ${reason ?? 'no reason is known'}`, EXIT.bad)
  if (json) return
  say(`${name}: ${state(status)}${reason ? `, ${reason}` : ''}`)
  if (checkpoints.length > 0) note(pc.dim(`Try it: mlx-training generate --model fine-tuned/${name} "…"`))
}

export const comeBack = (name: string) =>
  `${name} goes on. Come back with: mlx-training watch ${name}; end it with: mlx-training stop ${name}`

/** An event in words, without what only programs want. */
export function linesOf({ type, at, data }: JobEvent): string[] {
  const text = wordsOf(type, data)
  return text === null ? [] : [`${pc.dim(at.slice(11, 19))} ${text}`]
}

function wordsOf(type: JobEvent['type'], data: Record<string, unknown>): string | null {
  const number = (key: string) => data[key] as number | null
  switch (type) {
    case 'state':
      return `${data.state}${data.reason ? `: ${data.reason}` : ''}`
    case 'stage':
      return `${String(data.stage).replaceAll('_', ' ')}${data.total ? ` ${data.done} of ${data.total}` : ''}`
    case 'prepared':
      return `${count(number('samples') ?? 0)} rows, ${count(number('trained_tokens') ?? 0)} trained tokens an epoch, ${count(number('total_steps') ?? 0)} steps`
    case 'log':
      return (data.lines as string[]).map((line) => pc.dim(`  ${line}`)).join('\n')
    case 'step':
      return (
        `step ${data.step}  loss ${loss(number('loss'))}  ${Math.round(number('tokens_per_second') ?? 0)} tokens/s` +
        `  ${duration(number('seconds_remaining'))} left`
      )
    case 'eval':
      return `step ${data.step}  held-out loss ${loss(number('loss'))}${data.best ? ', the best so far' : ''}`
    case 'sample':
      return `step ${data.step}  "${data.prompt}"\n  base: ${data.base}\n  tuned: ${data.tuned}`
    case 'checkpoint':
      return `step ${data.step}  checkpoint`
    case 'warning':
      return pc.yellow(`warning: ${data.message}`)
    case 'end':
      return null // the state before it has said so
    default:
      return `${type}${data.message ? `: ${data.message}` : ''}`
  }
}

/** Training gives way to answers: its processes are told when some are being generated, and when no more are. */
import type { EngineProcess } from './process.ts'

/** From the last answer's end. Clients that ask one question after the other leave gaps in which training would begin a
 *  piece of seconds. */
const LINGER_MS = 200

type Told = Pick<EngineProcess, 'send' | 'exited'>

export interface RightOfWay {
  /** `busy`: whether any answer is being generated. */
  answers(busy: boolean): void
  /** From now on, to its end, it is told. */
  join(training: Told): void
}

export function createRightOfWay(linger = LINGER_MS): RightOfWay {
  const trainings = new Set<Told>()
  let active = false
  let timer: NodeJS.Timeout | undefined

  function tell(now: boolean): void {
    if (active === now) return
    active = now
    for (const training of trainings) training.send({ type: 'answering', active })
  }

  return {
    answers(busy) {
      clearTimeout(timer)
      if (busy) tell(true)
      else timer = setTimeout(() => tell(false), linger).unref()
    },
    join(training) {
      trainings.add(training)
      if (active) training.send({ type: 'answering', active })
      void training.exited.finally(() => trainings.delete(training))
    },
  }
}

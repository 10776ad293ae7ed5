/** What a part of `npm run test:soak` is; parts.ts lists them. */

/** One part's share of a round. */
export interface Task {
  /** Decides every trial of the part. */
  seed: number
  /** The seed of a single trial to be done again; null: those that `seed` decides. */
  replay: number | null
  /** At most so many. */
  trials: number
  /** Whether no further trial is to begin: the time is over, or somebody pressed Ctrl-C. */
  isOver(): boolean
}

/** What it has come to so far. */
export interface Standing {
  trials: number
  /** How many trials, or checks after the last, did not hold. */
  failed: number
  /** For people: Markdown without a heading. */
  text: string
  /** For programs: JSON. */
  data: object
}

export interface Part {
  /** For `--only`: one word. */
  name: string
  /** What is tried, in a few words. */
  what: string
  /** Prints each trial with what does it again, and yields after each and at the end. */
  run(task: Task): AsyncIterable<Standing>
}

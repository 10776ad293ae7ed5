/** A loss curve of a few points that is kept with the job as it grows: enough to see a trend in a list of many. */
export interface LossCurve {
  /** Steps between two points. */
  every: number
  /** [optimiser step, smoothed loss] */
  points: [step: number, loss: number][]
}

/** 30 to 60 points: a row's width in a table. Twice that halves the distance between them and every write grows by 1 KB. */
const MOST = 60

export const NO_CURVE: LossCurve = { every: 1, points: [] }

export function withStep(curve: LossCurve, step: number, loss: number | null): LossCurve {
  if (loss === null || step % curve.every !== 0) return curve
  const points = [...upTo(curve, step - 1).points, [step, Number(loss.toPrecision(4))] as [number, number]]
  if (points.length <= MOST) return { every: curve.every, points }
  const every = 2 * curve.every
  return { every, points: points.filter(([step]) => step % every === 0) }
}

/** Steps after `step` are as if they had not been. */
export const upTo = (curve: LossCurve, step: number): LossCurve => ({
  every: curve.every,
  points: curve.points.filter(([other]) => other <= step),
})

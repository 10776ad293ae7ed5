/** Growing columns of numbers: NaN stands for a number that is not there. */
export class Column {
  #values = new Float64Array(256)
  length = 0

  push(value: number | null): void {
    if (this.length === this.#values.length) {
      const larger = new Float64Array(2 * this.length)
      larger.set(this.#values)
      this.#values = larger
    }
    this.#values[this.length++] = value ?? Number.NaN
  }

  at(index: number): number {
    return this.#values[index] ?? Number.NaN
  }

  last(): number {
    return this.at(this.length - 1)
  }

  /** A view: it does not grow with the column, and a column that was cut writes into it again. */
  view(): Float64Array {
    return this.#values.subarray(0, this.length)
  }
}

/** The first index whose value is not below `value`, in ascending values. */
export function lowerBound(values: ArrayLike<number>, value: number): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((values[middle] as number) < value) low = middle + 1
    else high = middle
  }
  return low
}

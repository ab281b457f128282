"""Upper bounds of the loss over the whole set that an attack searches: how good is the maximum it found?"""

from pyfirstorder.certification.certificate import Certificate, certify, gap

__all__ = ["Certificate", "certify", "gap"]
